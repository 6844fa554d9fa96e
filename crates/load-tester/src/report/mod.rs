//! The story of a run, one file per output format. Everything is written from a [`Loaded`]: the outcome of a run or
//! a result file, brought to one shape.
//!
//! Two rules hold everywhere: what is not a response is never called latency, and nothing is called complete without
//! an expectation.

mod artillery;
mod blocks;
mod charts;
pub mod console;
mod console_v1;
mod console_v2;
pub mod csv;
pub mod diagnosis;
pub mod form;
mod hdr;
pub mod html;
pub mod json;
mod junit;
pub mod loaded;
mod markdown;
pub(crate) mod plain;
mod shapes;
mod sides;
pub(crate) mod story;
mod svg;
mod tables;
mod terms;
pub(crate) mod units;
mod verdict;
mod views;

pub use console::{Console, Format};
pub use diagnosis::{Diagnosis, diagnose};
pub use form::Form;
pub use loaded::{Loaded, Origin, Run, Slice, Summary};

/// What a page of another kind is drawn with.
pub(crate) mod charts_of {
    pub(crate) use super::html::x_ticks;
    pub(crate) use super::svg::{Chart, Mark, Series, Span, draw};
}
pub(crate) use html::STYLE;
pub(crate) use story::program;

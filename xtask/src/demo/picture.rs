//! Both reports beside each other, as a browser shows them: the README's first picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Part;
use crate::command::logged;
use crate::tree;

const PICTURE: &str = "docs/pictures/2018-and-dna.png";
/// What Debian, others, and macOS call it.
const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// In CSS pixels: each report as wide as a laptop's half, the beginning of it.
const WIDTH: u32 = 1_720;
const HEIGHT: u32 = 1_150;
/// More would weigh down the clone of everybody.
const MOST_BYTES: u64 = 400_000;

fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

pub(super) fn need_program() -> Result<()> {
    if browser().is_none() {
        bail!(
            "--picture needs Chromium or Chrome: apt-get install chromium | brew install --cask google-chrome"
        );
    }
    Ok(())
}

/// Writes docs/pictures/2018-and-dna.png; what is drawn stays in `folder`.
pub(super) fn draw(before: &Path, after: &Path, folder: &Path) -> Result<Part> {
    let started = Instant::now();
    let browser = browser().context("no browser")?;
    let page = folder.join("side-by-side.html");
    fs::write(&page, side_by_side(before, after))
        .with_context(|| format!("cannot write {}", page.display()))?;
    let picture: PathBuf = tree::root().join(PICTURE);
    if let Some(parent) = picture.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut command = Command::new(browser);
    command
        .args(["--headless=new", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"])
        // A profile of its own; a container's root may not have the sandbox, and these pages are ours.
        .args(["--no-sandbox", "--no-first-run", "--disable-extensions", "--allow-file-access-from-files"])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .arg(format!("--window-size={WIDTH},{HEIGHT}"))
        .args(["--force-device-scale-factor=1", "--virtual-time-budget=3000"])
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()));
    logged("picture", &mut command, |_| ())?;
    let bytes =
        fs::metadata(&picture).with_context(|| format!("{browser} wrote no {}", picture.display()))?.len();
    println!("picture   {} ({} kB)", tree::shown(&picture), bytes / 1000);
    if bytes > MOST_BYTES {
        bail!(
            "{PICTURE} has {bytes} bytes, more than {MOST_BYTES}: make it smaller in xtask/src/demo/picture.rs"
        );
    }
    Ok(Part { name: "picture", took: started.elapsed(), note: String::new() })
}

/// Reports stand beside this page, or anywhere: they are named whole.
fn side_by_side(before: &Path, after: &Path) -> String {
    let half = |title: &str, report: &Path| {
        format!(
            "<section><h1>{title}</h1><iframe src=\"file://{}\" scrolling=\"no\"></iframe></section>",
            report.display()
        )
    };
    format!(
        "<!doctype html><meta charset=\"utf-8\"><style>\
         body {{ margin: 0; height: 100vh; display: flex; background: #d8d8d8; gap: 12px; }}\
         section {{ flex: 1; display: flex; flex-direction: column; background: #fff; }}\
         h1 {{ margin: 0; padding: 14px 20px; font: 600 22px system-ui, sans-serif; color: #fff; background: #333; }}\
         iframe {{ flex: 1; border: 0; width: 100%; }}\
         </style>{}{}\n",
        half("The chat server of 2018: Node, Socket.IO 2, Redis", before),
        half("dna", after)
    )
}

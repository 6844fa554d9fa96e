//! drumfire: a load tester that runs Artillery scripts and reports honestly what happened.

//! What is written must be neither what is read, nor written twice.

use std::fs;
use std::path::{Path, PathBuf};

/// Holds the files of a command against each other; `written` goes with the flag that names it.
///
/// # Errors
/// In words, when one file has two parts to play.
pub fn distinct<'p>(
    read: impl IntoIterator<Item = &'p Path>,
    written: &[(&'static str, &Path)],
) -> Result<(), String> {
    let read: Vec<PathBuf> = read.into_iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for &(flag, path) in written {
        let Some(file) = file(path) else { continue };
        let shown = path.display();
        if read.contains(&file) {
            return Err(format!("{flag} {shown}: this file is read, and would be lost: name another"));
        }
        if let Some((other, _)) = seen.iter().find(|(_, earlier)| *earlier == file) {
            return Err(format!("{flag} {shown}: {other} goes there too: name another file for one of them"));
        }
        seen.push((flag, file));
    }
    Ok(())
}

/// In full, links followed; `None` for what loses nothing by being written twice: standard output, devices, pipes.
fn file(path: &Path) -> Option<PathBuf> {
    match fs::metadata(path) {
        Ok(meta) => meta.is_file().then(|| fs::canonicalize(path).ok())?,
        Err(_) if path == Path::new("-") => None,
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            Some(fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?.join(path.file_name()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_one_part() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.yml"), "").unwrap();
        fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink(at("a.yml"), at("link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("here")).unwrap();
        let check = |names: &[(&'static str, &str)]| {
            let paths: Vec<_> = names.iter().map(|(flag, name)| (*flag, at(name))).collect();
            let written: Vec<_> = paths.iter().map(|(flag, path)| (*flag, path.as_path())).collect();
            distinct([at("a.yml").as_path()], &written)
        };
        for name in ["a.yml", "link", "d/../a.yml", "here/a.yml"] {
            assert!(check(&[("--csv", name)]).is_err_and(|why| why.contains("is read")), "{name}");
        }
        for name in ["r", "d/../r", "here/r"] {
            let twice = check(&[("--output", "r"), ("--csv", name)]);
            assert!(twice.is_err_and(|why| why.contains("--output goes there too")), "{name}");
        }
        assert_eq!(
            check(&[("--output", "r"), ("--csv", "c"), ("--hdr", "d"), ("--pairs", "no/such")]),
            Ok(())
        );
        let nothing = Path::new("/dev/null");
        assert_eq!(distinct([nothing], &[("--csv", nothing), ("--hdr", nothing)]), Ok(()));
        let out = Path::new("-");
        assert_eq!(distinct([], &[("--csv", out), ("--markdown", out)]), Ok(()));
    }
}

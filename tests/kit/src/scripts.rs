//! Golden scripts as tests.

use std::collections::BTreeSet;
use std::path::Path;

/// Runs every script of a folder as a test of its own, and fails for a file that is not listed.
///
/// ```text
/// rusd_kit::run_dir!("tests/scripts", Runner::new(), [
///     a_first_script
///     a_second_one
/// ]);
/// ```
///
/// The folder is relative to the crate. To rewrite what scripts expect: `UPDATE_GOLDENFILES=1 cargo test`.
#[macro_export]
macro_rules! run_dir {
    ($folder:literal, $runner:expr, [$($name:ident)*]) => {
        $(
            #[test]
            fn $name() {
                $crate::run(&mut $runner, concat!($folder, "/", stringify!($name)));
            }
        )*

        #[test]
        fn every_script_is_run() {
            $crate::assert_all_listed($folder, &[$(stringify!($name)),*]);
        }
    };
}

/// Runs one script; panics where its output differs.
pub fn run(runner: &mut impl goldenscript::Runner, path: &str) {
    if let Err(error) = goldenscript::run(runner, path) {
        panic!("{path}: {error}");
    }
}

/// Panics unless the files of a folder are those listed.
pub fn assert_all_listed(folder: impl AsRef<Path>, listed: &[&str]) {
    let folder = folder.as_ref();
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    let found: BTreeSet<String> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .collect();
    let listed: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, listed, "the scripts in {}", folder.display());
}

#[cfg(test)]
mod tests {
    use super::assert_all_listed;

    #[test]
    fn the_files_of_a_folder_are_all_listed() {
        assert_all_listed("src", &["args.rs", "lib.rs", "scripts.rs"]);
    }

    #[test]
    #[should_panic(expected = "the scripts in src")]
    fn a_file_that_is_not_listed_fails() {
        assert_all_listed("src", &["args.rs", "lib.rs"]);
    }
}

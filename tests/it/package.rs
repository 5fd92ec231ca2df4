// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages, made of the programs that are tested: what is in them, and a package's life on a booted Debian.

mod content;
mod life;

use crate::machine::{Machine, Suite, place, programs, source};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where the packages are in a machine.
pub const PACKAGE: &str = "/srv/watcherd.deb";
const NEWER: &str = "/srv/watcherd-newer.deb";
const NEWER_VERSION: &str = "0.1.0-2";

/// What is laid over a machine that watcherd is to be installed in: the package, and the same with a higher version.
pub fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let place = place("package");
        let script = source().join("packaging/debian/build");
        let built = stdout_of(Command::new(script).arg("--binaries").arg(programs()).arg("--output").arg(&place));
        let package = place.join(PACKAGE.trim_start_matches('/'));
        fs::create_dir_all(package.parent().expect("a directory")).expect("it can be made");
        fs::rename(built.trim(), &package).expect("the package is there");
        repack(&package, &place.join(NEWER.trim_start_matches('/')));
        // Machines for tests leave out manual pages and documents; here they count.
        let everything = place.join("etc/dpkg/dpkg.cfg.d/zz-everything");
        fs::create_dir_all(everything.parent().expect("a directory")).expect("it can be made");
        fs::write(&everything, "path-include=/usr/share/*\n").expect("it can be written");
        place
    })
}

/// The same package with a higher version.
fn repack(package: &Path, newer: &Path) {
    let tree = tempfile::tempdir().expect("a directory can be made");
    stdout_of(Command::new("dpkg-deb").arg("-R").arg(package).arg(tree.path()));
    let control = tree.path().join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a package has one");
    let version = text.lines().find(|line| line.starts_with("Version: ")).expect("it has a version");
    fs::write(&control, text.replace(version, &format!("Version: {NEWER_VERSION}"))).expect("it can be written");
    stdout_of(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "-b"]).arg(tree.path()).arg(newer));
}

/// Boots a machine with the packages in it, and nothing of watcherd.
fn bare(suite: Suite) -> Machine {
    Machine::boot_over(suite, layer(), &[])
}

fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", errors(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{stdout}{stderr}", output.status)
}

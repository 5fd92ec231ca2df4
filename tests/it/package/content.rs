// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the packages.

use super::{PACKAGE, errors, layer, stdout_of};
use crate::machine::{installed, place, programs, source};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn package() -> PathBuf {
    layer().join(PACKAGE.trim_start_matches('/'))
}

#[test]
fn lintian_finds_no_error_and_nothing_that_is_not_explained() {
    let mut lintian = Command::new("lintian");
    // Debian 12 asks for a script for another init; Debian 13 does not know that tag, so it cannot be explained in the package.
    lintian.args(["--suppress-tags", "package-supports-alternative-init-but-no-init.d-script"]);
    lintian.args(["--allow-root", "--display-info", "--no-tag-display-limit", "--fail-on", "error,warning,info"]);
    let output = lintian.arg(package()).output().expect("lintian can be run");
    assert!(output.status.success() && output.stdout.is_empty(), "{}", errors(&output));
}

#[test]
fn the_debian_package_has_what_make_install_installs() {
    let listed = stdout_of(Command::new("dpkg-deb").arg("-c").arg(package()));
    let packed = listed.lines().filter(|line| line.starts_with('-')).filter_map(|line| line.split(" ./").nth(1));
    // Debian compresses documents, names licences in a file of its own, and keeps units in /lib where systemd does.
    let plain = |path: &str| path.trim_end_matches(".gz").replacen("usr/lib/systemd/system/", "lib/systemd/system/", 1);
    let packed: BTreeSet<_> = packed.map(plain).collect();
    let missing: Vec<_> = files(installed()).into_iter().filter(|path| !packed.contains(&plain(path))).collect();
    let explained = |path: &String| path.contains("/licenses/") || path.ends_with("/CHANGELOG.md");
    assert!(missing.iter().all(explained), "{missing:?}\n{listed}");
    for file in ["copyright", "changelog", "changelog.Debian"] {
        assert!(packed.contains(&format!("usr/share/doc/watcherd/{file}")), "{file}\n{listed}");
    }
}

#[test]
fn the_other_packages_have_it_too_and_nothing_else() {
    let output = place("packages");
    let build =
        |script: &str| stdout_of(Command::new(source().join(script)).arg(programs()).arg(&output)).trim().to_owned();
    let (rpm, arch) = (build("packaging/rpm/build"), build("packaging/arch/build"));
    let wanted: BTreeSet<_> = files(installed()).iter().map(|path| path.trim_end_matches(".gz").to_owned()).collect();
    let listed = stdout_of(Command::new("rpm").args(["-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]"]).arg(&rpm));
    let packed = listed.lines().filter_map(|line| line.strip_prefix('-')?.split_once(" /")).map(|(_, path)| path);
    assert_eq!(packed.map(|path| path.trim_end_matches(".gz").to_owned()).collect::<BTreeSet<_>>(), wanted, "{rpm}");
    let scripts = stdout_of(Command::new("rpm").args(["-qp", "--scripts"]).arg(&rpm));
    assert!(scripts.contains("systemctl --no-reload preset watcherd.service"), "{scripts}");
    let listed = stdout_of(Command::new("bsdtar").arg("-tf").arg(&arch));
    let packed = listed.lines().filter(|path| !path.starts_with('.') && !path.ends_with('/'));
    assert_eq!(packed.map(|path| path.trim_end_matches(".gz").to_owned()).collect::<BTreeSet<_>>(), wanted, "{arch}");
}

/// Every file below, by its path from there.
fn files(root: &Path) -> BTreeSet<String> {
    let listed = stdout_of(Command::new("find").arg(root).args(["-type", "f", "-printf", "%P\\n"]));
    listed.lines().map(str::to_owned).collect()
}

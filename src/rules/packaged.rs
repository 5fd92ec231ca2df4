// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rule files of the package, part of the program, so that it can judge without being installed.

macro_rules! files {
    ($($name:literal)*) => {
        /// Names and texts, in the order in which they are read.
        pub const PACKAGED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../packaging/rules.d/", $name)))),*];
    };
}

files! {
    "accelerator.toml"
    "distributed.toml"
    "ends.toml"
    "files.toml"
    "harmless.toml"
    "host.toml"
    "languages.toml"
    "memory.toml"
    "network.toml"
    "process.toml"
    "program.toml"
    "settings.toml"
    "systemd.toml"
}

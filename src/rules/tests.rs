// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn the_packaged_files_have_no_fault() {
    for (name, text) in PACKAGED {
        let file = RuleFile::parse(name, text, Examples::Prove);
        let faults: Vec<String> = file.faults.iter().map(|fault| format!("{name}:{fault}")).collect();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one integration binary.

mod histories;
mod installed;
mod machine;
mod scenario;
mod system;
mod tidy;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one integration binary.

mod installed;
mod machine;
mod system;

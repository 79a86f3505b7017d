//! Random file operations against a model of what POSIX (as Linux has it) says must come out.
//!
//! `op` names the operations, `state` is the model, `change` applies an operation to it and judges the answer of the
//! real directory, `real` asks that directory, `choose` invents operations, `run` ties them together and shrinks what
//! fails to the shortest log it can find.

pub mod change;
pub mod choose;
pub mod data;
pub mod names;
pub mod op;
pub mod real;
pub mod run;
pub mod state;

use super::*;

#[test]
fn program_of_this_machine_needs_an_interpreter() {
    assert!(needs_interpreter(&fs::read("/bin/ls").unwrap()).unwrap());
}

#[test]
fn text_is_no_program() {
    assert!(needs_interpreter(b"#!/bin/sh\n").is_err());
}

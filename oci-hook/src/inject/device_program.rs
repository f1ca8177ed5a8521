//! A cgroup's device program, widened: allow our devices, else do what the program did before.
//!
//! All programs of a cgroup must allow, so a second one beside the runtime's opens nothing: the runtime's own
//! instructions are read back from the kernel and stand unchanged behind ours.

#![forbid(unsafe_code)]

use libgpuspec::cdi::DeviceNode;
use oci_hook::kernel::Instruction;

/// What a container may do with one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    kind: char,
    major: u32,
    minor: u32,
    access: String,
}

impl Rule {
    /// The rule for a node; `None` for one that no device cgroup counts.
    pub(crate) fn new(node: &DeviceNode) -> Result<Option<Rule>, String> {
        let kind = match node.node_type.as_str() {
            "b" => 'b',
            "c" | "u" => 'c',
            _ => return Ok(None),
        };
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        if access == "none" {
            return Ok(None);
        }
        match (u32::try_from(node.major), u32::try_from(node.minor)) {
            (Ok(major), Ok(minor)) => Ok(Some(Rule { kind, major, minor, access: access.to_owned() })),
            _ => Err(format!("{}: no device has the numbers {}:{}", node.path, node.major, node.minor)),
        }
    }

    /// The line for devices.allow of cgroup version 1.
    pub(crate) fn line(&self) -> String {
        format!("{} {}:{} {}", self.kind, self.major, self.minor, self.access)
    }
}

/// Most instructions of a runtime's program: four thousand devices. What Docker's and podman's rules come to has 64 to 77.
pub(crate) const MAX_INSTRUCTIONS: usize = 32 << 10;

// Codes of instructions, their parts joined (linux/bpf.h and Documentation/bpf/standardization/instruction-set.rst).
const LOAD_CONSTANT: u8 = 0x18;
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const UNLESS_EQUAL: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

// A program begins with its argument in R1 and nothing in the others; what it answers is in R0.
const ANSWER: u8 = 0;
const ARGUMENT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// R10; above it are those that the kernel keeps for itself.
const LAST_REGISTER: u8 = 10;

fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: u32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, immediate: constant.cast_signed() }
}

/// The registers of an instruction: that which is written, and that which is read.
fn registers(instruction: &Instruction) -> (u8, u8) {
    let (low, high) = (instruction.registers & 0xf, instruction.registers >> 4);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}

/// The old program with these devices allowed before it is asked, or why that cannot be.
pub(crate) fn widened(rules: &[Rule], old: &[Instruction]) -> Result<Vec<Instruction>, String> {
    check(old)?;
    // What is asked is a structure of three words: access and kind in one, major, minor (struct bpf_cgroup_dev_ctx).
    let mut program = vec![
        instruction(LOAD_WORD, ACCESS, ARGUMENT, 0, 0),
        instruction(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, ARGUMENT, 4, 0),
        instruction(LOAD_WORD, MINOR, ARGUMENT, 8, 0),
    ];
    rules.iter().for_each(|rule| program.extend(allowing(rule)));
    program.extend(old);
    Ok(program)
}

/// Ends the program with a yes where the rule covers what is asked, and goes on behind itself where it does not.
fn allowing(rule: &Rule) -> [Instruction; 8] {
    // BPF_DEVCG_DEV_… and BPF_DEVCG_ACC_….
    let kind = if rule.kind == 'b' { 1 } else { 2 };
    let bit = |letter: char, bit: u32| if rule.access.contains(letter) { bit } else { 0 };
    let refused = 7 & !(bit('m', 1) | bit('r', 2) | bit('w', 4));
    [
        instruction(UNLESS_EQUAL, KIND, 0, 7, kind),
        instruction(UNLESS_EQUAL, MAJOR, 0, 6, rule.major),
        instruction(UNLESS_EQUAL, MINOR, 0, 5, rule.minor),
        instruction(MOVE_REGISTER, ANSWER, ACCESS, 0, 0),
        instruction(AND, ANSWER, 0, 0, refused),
        instruction(UNLESS_EQUAL, ANSWER, 0, 2, 0),
        instruction(MOVE, ANSWER, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Whether instructions that the kernel told mean the same when they are given to it again.
///
/// It rewrites some when it takes a program: calls become addresses, maps their numbers, and constants are hidden
/// in a register of its own where the administrator wants it so. Of the rest nothing is rewritten.
fn check(old: &[Instruction]) -> Result<(), String> {
    let mut rest = old.iter();
    while let Some(instruction) = rest.next() {
        let (code, (to, from)) = (instruction.code, registers(instruction));
        let is_plain = match (code & 7, code) {
            // A constant of two words; it would be a map's number were a register named to read it from.
            (0, LOAD_CONSTANT) => rest.next().is_some() && from == 0,
            (0, _) => false,
            (1..=3, _) => code & 0xe0 == 0x60,
            (_, CALL) => return Err("it calls functions of the kernel".to_owned()),
            _ => true,
        };
        if to > LAST_REGISTER || from > LAST_REGISTER {
            return Err("its constants are hidden (net.core.bpf_jit_harden is 2)".to_owned());
        }
        if !is_plain {
            return Err(format!("it has an instruction, {code:#04x}, that the kernel has rewritten"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADS: [(u8, u8, i16); 3] = [(ACCESS, ARGUMENT, 0), (MAJOR, ARGUMENT, 4), (MINOR, ARGUMENT, 8)];

    /// What a program answers; it knows the instructions that are made here and nothing else.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let (mut registers, mut at, words) = ([0_u32; 11], 0_usize, [access << 16 | kind, major, minor]);
        for _ in 0..program.len() + 1 {
            let Instruction { code, offset, immediate, .. } = program[at];
            let (to, from) = self::registers(&program[at]);
            let (to, from) = (usize::from(to), usize::from(from));
            let constant = immediate.cast_unsigned();
            at += 1;
            match code {
                LOAD_WORD => {
                    assert_eq!(from, usize::from(ARGUMENT), "what is asked is behind R1");
                    registers[to] = words[usize::try_from(offset).unwrap() / 4];
                }
                AND => registers[to] &= constant,
                SHIFT_RIGHT => registers[to] >>= constant,
                MOVE => registers[to] = constant,
                MOVE_REGISTER => registers[to] = registers[from],
                UNLESS_EQUAL if registers[to] != constant => at += usize::try_from(offset).unwrap(),
                UNLESS_EQUAL => {}
                EXIT => return registers[0],
                _ => panic!("{code:#x}"),
            }
            assert_ne!(to, usize::from(ARGUMENT), "R1 is the old program's");
        }
        panic!("no end");
    }

    fn rule(kind: char, major: u32, minor: u32, access: &str) -> Rule {
        Rule { kind, major, minor, access: access.to_owned() }
    }

    fn answering(answer: u32) -> [Instruction; 2] {
        [instruction(MOVE, ANSWER, 0, 0, answer), instruction(EXIT, 0, 0, 0, 0)]
    }

    #[test]
    fn a_rule_allows_its_device_and_access_and_else_the_old_program_answers() {
        let rules = [
            rule('c', 195, 0, "rwm"),
            rule('c', 195, 255, "rw"),
            rule('b', 7, 1 << 19, "r"),
            rule('c', 234, 1, ""),
        ];
        let (mknod, read, write) = (1, 2, 4);
        let cases = [
            (2, mknod | read | write, 195, 0, true),
            (2, mknod, 195, 0, true),
            (2, read | write, 195, 255, true),
            (2, mknod, 195, 255, false),
            (2, mknod | read, 195, 255, false),
            (1, read, 195, 0, false),
            (2, read, 195, 1, false),
            (2, read, 196, 0, false),
            (2, read, 0, 195, false),
            (1, read, 7, 1 << 19, true),
            (1, write, 7, 1 << 19, false),
            (2, read, 7, 1 << 19, false),
            (2, read, 234, 1, false),
            (2, read, 1, 3, false),
        ];
        for answer in [0, 1] {
            let program = widened(&rules, &answering(answer)).unwrap();
            for (kind, access, major, minor, allowed) in cases {
                let expected = u32::from(allowed).max(answer);
                assert_eq!(
                    run(&program, kind, access, major, minor),
                    expected,
                    "{kind} {access} {major}:{minor}"
                );
            }
        }
    }

    #[test]
    fn the_old_program_is_unchanged_behind_ours() {
        let mut old: Vec<Instruction> =
            LOADS.iter().map(|&(to, from, offset)| instruction(LOAD_WORD, to, from, offset, 0)).collect();
        old.extend(answering(0));
        let program = widened(&[rule('c', 1, 2, "rw")], &old).unwrap();
        assert_eq!(program[program.len() - old.len()..], old[..]);
        let again = widened(&[rule('c', 1, 2, "rw")], &program).unwrap();
        assert_eq!(run(&again, 2, 2, 1, 2), 1);
    }

    #[test]
    fn what_the_kernel_has_rewritten_is_not_given_to_it_again() {
        let cases = [
            (instruction(CALL, 0, 0, 0, 7), "calls functions"),
            (instruction(MOVE_REGISTER, 2, 11, 0, 0), "bpf_jit_harden"),
            (instruction(MOVE, 11, 0, 0, 0), "bpf_jit_harden"),
            (instruction(LOAD_CONSTANT, 0, 1, 0, 9), "0x18"),
            (instruction(LOAD_CONSTANT, 2, 0, 0, 9), "0x18"),
            (instruction(0x20, 0, 0, 0, 0), "0x20"),
            (instruction(0xdb, 1, 2, 0, 0), "0xdb"),
            (instruction(0xc2, 0, 0, 0, 0), "0xc2"),
        ];
        for (instruction, word) in cases {
            let refused = widened(&[], &[instruction]).unwrap_err();
            assert!(refused.contains(word), "{instruction:?}: {refused}");
        }
        let constant = [instruction(LOAD_CONSTANT, 2, 0, 0, 9), Instruction::default()];
        assert!(widened(&[], &[&constant[..], &answering(1)].concat()).is_ok());
    }

    #[test]
    fn nodes_become_rules_where_their_numbers_can_be() {
        let node = |kind: &str, major, permissions: &str| DeviceNode {
            path: "/dev/x".to_owned(),
            node_type: kind.to_owned(),
            major,
            minor: 2,
            permissions: permissions.to_owned(),
            ..DeviceNode::default()
        };
        let line = |kind, major, permissions| {
            Rule::new(&node(kind, major, permissions)).map(|rule| rule.map(|it| it.line()))
        };
        assert_eq!(line("c", 1, ""), Ok(Some("c 1:2 rwm".to_owned())));
        assert_eq!(line("u", 1, "rw"), Ok(Some("c 1:2 rw".to_owned())));
        assert_eq!(line("b", 1, "r"), Ok(Some("b 1:2 r".to_owned())));
        assert_eq!((line("c", 1, "none"), line("p", 1, "")), (Ok(None), Ok(None)));
        assert!(line("c", -1, "").is_err() && line("c", 1 << 32, "").is_err());
    }
}

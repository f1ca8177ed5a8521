use proptest::prelude::*;

use super::*;

const LINES: &str = "[Files]\nBind=/dev/x\n";

fn assignment(section: &str, key: &str, value: &str) -> Assignment {
    Assignment { section: section.into(), key: key.into(), value: value.into() }
}

#[test]
fn a_settings_file_is_read_as_systemd_reads_it() {
    let boot = || assignment("Exec", "Boot", "yes");
    let cases: [(&str, &[u8], Vec<Assignment>); 13] = [
        ("plain", b"[Exec]\nBoot=yes\n", vec![boot()]),
        ("no final newline, blanks", b" [Exec] \n\t Boot =  yes  ", vec![boot()]),
        ("CRLF", b"[Exec]\r\nBoot=yes\r\n", vec![boot()]),
        ("carriage returns alone", b"[Exec]\rBoot=yes\r", vec![boot()]),
        ("NUL ends a line", b"[Exec]\0Boot=yes\0", vec![boot()]),
        ("a byte order mark", b"\xef\xbb\xbf[Exec]\nBoot=yes\n", vec![boot()]),
        ("comments", b"# [Files]\n[Exec]\n; Boot=no\n#Boot=no\nBoot=yes", vec![boot()]),
        (
            "continued",
            b"[Exec]\nParameters=a\\\n  b\nBoot=yes",
            vec![assignment("Exec", "Parameters", "a b"), boot()],
        ),
        (
            "continued past a comment",
            b"[Exec]\nParameters=a\\\n# c\\\nb",
            vec![assignment("Exec", "Parameters", "a b")],
        ),
        (
            "continued over CRLF",
            b"[Exec]\r\nParameters=a\\\r\nb",
            vec![assignment("Exec", "Parameters", "a b")],
        ),
        (
            "a header that is continued is none",
            b"[Exec\\\n]\nBoot=no\n[Exec]\nBoot=yes",
            vec![assignment("Exec ", "Boot", "no"), boot()],
        ),
        (
            "before any section, no UTF-8, no assignment",
            b"Boot=no\n[Exec]\nUser=\xff\nnonsense\nBoot=yes",
            vec![boot()],
        ),
        (
            "two backslashes at the end continue nothing",
            b"[Exec]\nUser=a\\\\\nBoot=yes",
            vec![assignment("Exec", "User", "a\\\\"), boot()],
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(assignments(text), expected, "{name}");
    }
}

#[test]
fn a_block_stands_at_the_end_in_sections_of_its_own() {
    let with = with_block(b"[Exec]\nBoot=yes\n", LINES);
    let expected = "[Exec]\nBoot=yes\n\n# BEGIN gpuspec: made when the machine starts, removed when it stops; do not edit\n\n\
                    [Files]\nBind=/dev/x\n# END gpuspec\n";
    assert_eq!(String::from_utf8(with.clone()).unwrap(), expected);
    assert!(has_block(&with) && !has_block(b"[Exec]\n"));
    assert_eq!(with_block(&with, LINES), with, "a second block takes the place of the first");
    assert_eq!(with_block(b"", LINES).first(), Some(&b'#'));
}

/// Texts that a user's file can be, however odd.
const TEXTS: [&[u8]; 12] = [
    b"",
    b"\n",
    b"\n\n",
    b"[Exec]\nBoot=yes",
    b"[Exec]\r\nBoot=yes\r\n",
    b"[Files]\nBind=/a\\",
    b"[Files]\nBind=/a\\\n",
    b"# BEGIN gpuspec",
    b"# BEGIN gpuspec: half\n[Files]\nBind=/mine\n",
    b"# END gpuspec\n[Exec]\nBoot=no\n# END gpuspec",
    b"\xff\xfe\0\r",
    b"# BEGIN gpuspecs\n# END gpuspec\n",
];

#[test]
fn what_is_added_goes_without_a_trace() {
    for text in TEXTS {
        let name = String::from_utf8_lossy(text);
        assert_eq!(without_block(text), text, "{name:?}: nothing of ours in it");
        let with = with_block(text, LINES);
        assert_eq!(without_block(&with), text, "{name:?}");
        // Whatever the text ends with, it means what it did, and so do our lines.
        let mut expected = assignments(text);
        expected.push(assignment("Files", "Bind", "/dev/x"));
        assert_eq!(assignments(&with), expected, "{name:?}");
    }
}

#[test]
fn what_was_written_behind_the_block_stays_a_line_of_its_own() {
    for (before, rest) in
        [("[Exec]\nUser=a\n", "[Exec]\nUser=a\nBoot=no\n"), ("[Exec]\nUser=a", "[Exec]\nUser=a\nBoot=no\n")]
    {
        let mut with = with_block(before.as_bytes(), LINES);
        with.extend_from_slice(b"Boot=no\n");
        assert_eq!(String::from_utf8(without_block(&with)).unwrap(), rest);
    }
}

#[test]
fn an_untrusted_file_gives_what_it_could_have_where_it_was() {
    let untrusted = b"[Exec]\nBoot=yes\nCapability=all\nEnvironment=A=b\\\n c\nPrivateUsers=no\nEphemeral=yes\nMachineID=x\n\
        SystemCallFilter=@mount\nSystemCallFilter=~@clock\nLimitMEMLOCK=infinity\nboot=no\nAmbientCapability=CAP_SYS_ADMIN\n\
        [Files]\nBind=/etc:/mnt\nBindReadOnly=/\nReadOnly=yes\nOverlay=/a:/b\nBindUser=root\nInaccessible=/x\n\
        [Network]\nPrivate=no\nPort=22\nBoot=yes\n[Evil]\nBoot=no\n[ Exec]\nBoot=no\n[Exec]\nUser=u\\ \nHostname=h";
    let expected = "[Exec]\nBoot=yes\nEnvironment=A=b c\nSystemCallFilter=~@clock\nUser=u\\ \nHostname=h\n[Files]\nReadOnly=yes\n";
    assert_eq!(kept(untrusted), expected);
    assert_eq!(kept(expected.as_bytes()), expected);
    for text in ["", "[Files]\nBind=/:/host\n", "Boot=yes\n"] {
        assert_eq!(kept(text.as_bytes()), "", "{text}");
    }
}

#[test]
fn a_machines_own_command_line_is_known() {
    let cases = [
        ("none", "[Exec]\nEnvironment=A=b\n", ""),
        (
            "a variable",
            "[Exec]\nEnvironment=A=b \"SYSTEMD_PROC_CMDLINE=quiet systemd.unit=a\" C=d\n",
            "quiet systemd.unit=a",
        ),
        (
            "the last one",
            "[Exec]\nEnvironment=SYSTEMD_PROC_CMDLINE=a\nEnvironment=SYSTEMD_PROC_CMDLINE=b\n",
            "b",
        ),
        ("taken back", "[Exec]\nEnvironment=SYSTEMD_PROC_CMDLINE=a\nEnvironment=\n", ""),
        ("of another section", "[Files]\nEnvironment=SYSTEMD_PROC_CMDLINE=a\n", ""),
        ("arguments", "[Exec]\nBoot=yes\nParameters=systemd.unit=a 'b c'\n", "systemd.unit=a \"b c\""),
        ("arguments that do not count", "[Exec]\nParameters=systemd.unit=a\n", ""),
        ("both", "[Exec]\nBoot=yes\nParameters=a\nEnvironment=SYSTEMD_PROC_CMDLINE=b\n", "b"),
    ];
    for (name, text, expected) in cases {
        assert_eq!(command_line(text.as_bytes()), expected, "{name}");
    }
}

#[test]
fn names_that_systemd_ignores_are_no_variables() {
    let text = b"[Exec]\nEnvironment=A=1 BAD-NAME=1 9X=2 -x=1 =3 _b2=4 a.b=5\n";
    assert_eq!(environment(text), ["A=1", "_b2=4"]);
}

proptest! {
    #[test]
    fn added_and_removed_leaves_any_text_as_it_was(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        prop_assert_eq!(without_block(&with_block(&text, LINES)), text);
    }

    #[test]
    fn so_it_does_among_pieces_of_blocks(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec!["# BEGIN gpuspec", ": x", "\n", "\r\n", "\\", "[Exec]", "a=b", "# END gpuspec", " ", "é"]), 0..14)
    ) {
        let text = pieces.concat().into_bytes();
        let own = without_block(&text);
        let with = with_block(&text, LINES);
        prop_assert_eq!(&without_block(&with), &own);
        prop_assert_eq!(&with_block(&with, LINES), &with);
    }

    #[test]
    fn what_is_kept_is_kept_again(text in "(\\[Exec\\]|\\[Files\\]|User|Boot|ReadOnly|Bind|=|\\\\|[ -~]|\n|\r|#){0,30}") {
        let first = kept(text.as_bytes());
        prop_assert_eq!(kept(first.as_bytes()), first);
    }
}

use super::mount::{Mount, MountKind, Sharing};
use super::*;
use crate::diagnostic::Diagnostic;
use crate::expand::expand;
use crate::source::SourceFile;
use crate::syntax;
use std::sync::Arc;

fn lowered(text: impl Into<Vec<u8>>) -> (Dockerfile, Vec<Diagnostic>) {
    let (ast, mut diagnostics) = syntax::parse(&SourceFile::new("Dockerfile", text));
    let (file, more) = lower(&ast);
    diagnostics.extend(more);
    (file, diagnostics)
}

/// The one instruction after `FROM x`.
#[track_caller]
fn one(text: &str) -> Located {
    let (file, diagnostics) = lowered(format!("FROM x\n{text}"));
    assert!(diagnostics.is_empty(), "{text}: {diagnostics:?}");
    let mut instructions = file.stages.into_iter().flat_map(|stage| stage.instructions);
    Arc::unwrap_or_clone(instructions.next().expect("an instruction"))
}

/// The messages for the lines after `FROM x`, each with its line and column.
fn problems(text: &str) -> Vec<String> {
    let whole = format!("FROM x\n{text}");
    let source = SourceFile::new("Dockerfile", whole.as_str());
    let problems = lowered(whole).1;
    problems
        .into_iter()
        .map(|problem| format!("{} {}", source.line_col(problem.span.start), problem.message))
        .collect()
}

fn strings(words: &[&str]) -> Vec<Text> {
    words.iter().copied().map(Text::from).collect()
}

#[test]
fn stages_and_global_args() {
    let (file, diagnostics) = lowered(
        "# about\nARG A=1 B\narg C\nFROM --platform=$P x:$A AS Base.One\nRUN a\nfrom base.one\nCMD b",
    );
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let names: Vec<_> = file
        .global_args
        .iter()
        .flat_map(|line| line.args.iter().map(|arg| (arg.name.as_str(), arg.default.as_deref())))
        .collect();
    assert_eq!(names, [("A", Some("1")), ("B", None), ("C", None)]);
    let [one, two] = file.stages.as_slice() else { panic!("two stages") };
    assert_eq!(one.name.as_deref(), Some("base.one"));
    assert_eq!(one.name_written.as_deref(), Some("Base.One"));
    assert_eq!((one.base.as_str(), one.platform.as_deref()), ("x:$A", Some("$P")));
    assert_eq!((two.index, two.name.as_deref(), two.base.as_str()), (1, None, "base.one"));
    assert_eq!((one.instructions.len(), two.instructions.len()), (1, 1));
    assert_eq!(one.text, "FROM --platform=$P x:$A AS Base.One");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = "RUN a\nFORM b\nFROM x as 1y\nCOPY --form=q a\nENV a=1 b c=2 =3\nHEALTHCHECK --retries=-1 --intervall=1 CMD\nEXPOSE\nCMD [1]\nRUN --network=hots --mount=a\"b true";
    let (_, diagnostics) = lowered(text);
    let source = SourceFile::new("Dockerfile", text);
    let lines: Vec<String> = diagnostics
        .iter()
        .map(|d| {
            let help = d.help.as_deref().unwrap_or_default();
            format!("{} {} {} | {help}", source.line_col(d.span.start), d.code, d.message)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    1:1 D011 no build stage in current context | only ARG and comments may stand before the first FROM
    2:1 D005 unknown instruction: FORM | did you mean `FROM`?
    3:11 D010 invalid name for build stage: `1y` | a name begins with a letter; letters, digits, `-`, `_`, `.` follow
    4:6 D006 unknown flag: --form | did you mean `--from`?
    4:15 D008 COPY requires at least two arguments, but only one was provided. Destination could not be determined | 
    5:9 D008 Syntax error - can't find = in "b". Must be of the form: name=value | quote a value that has blanks in it
    5:15 D008 ENV names can not be blank | 
    6:13 D007 --retries cannot be negative (-1) | 
    6:26 D006 unknown flag: --intervall | did you mean `--interval`?
    6:40 D008 Missing command after HEALTHCHECK CMD | 
    7:1 D008 EXPOSE requires at least one argument | 
    8:5 D009 when using JSON array syntax, arrays must be comprised of strings only | 
    9:5 D007 invalid value for --network: "hots" | did you mean `host`?
    "#);
}

#[test]
fn files_without_stages() {
    let message = |text: &str| lowered(text).1[0].message.clone();
    assert_eq!(message("ARG a"), "dockerfile contains no stages to build");
    assert_eq!(message("RUN x\nFROM y"), "no build stage in current context");
    assert_eq!(message("FROBNICATE x"), "unknown instruction: FROBNICATE");
    assert_eq!(lowered("RUN x\nRUN y").1.len(), 1);
    assert_eq!(message("FROM a\n\\\n"), "unknown instruction: ");
}

#[test]
fn pairs() {
    let pairs = |text: &str| match one(text).instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => pairs,
        other => panic!("{other:?}"),
    };
    let pair = |key: &str, value: &str| (Text::from(key), Text::from(value));
    assert_eq!(
        pairs("ENV A=b C=\"d e\" F="),
        [pair("A", "b"), pair("C", "\"d e\""), pair("F", "")]
    );
    assert_eq!(pairs("ENV ONE TWO= THREE=world"), [pair("ONE", "TWO= THREE=world")]);
    assert_eq!(pairs("ENV\tA\tone\ttwo"), [pair("A", "one\ttwo")]);
    assert_eq!(pairs("ENV A = b"), [pair("A", "= b")]);
    assert_eq!(pairs("LABEL \"k l\"=\"m n\""), [pair("\"k l\"", "\"m n\"")]);
    assert_eq!(pairs("ENV A=b=c B==x"), [pair("A", "b=c"), pair("B", "=x")]);
    assert_eq!(
        problems("ENV a=1 b\nLABEL a\nENV\nENV =1\nLABEL"),
        [
            "2:9 Syntax error - can't find = in \"b\". Must be of the form: name=value",
            "3:7 LABEL must have two arguments",
            "4:1 ENV requires at least one argument",
            "5:5 ENV names can not be blank",
            "6:1 LABEL requires at least one argument",
        ]
    );
}

#[test]
fn flags_that_are_not_looked_at() {
    assert!(
        matches!(one("STOPSIGNAL --x=y 9").instruction, Instruction::StopSignal(s) if s == "9")
    );
    assert!(matches!(one("ARG --x a").instruction, Instruction::Arg(args) if args[0].name == "a"));
    assert!(matches!(one("HEALTHCHECK --x NONE").instruction, Instruction::Healthcheck(_)));
    assert_eq!(problems("USER --x y"), ["2:6 unknown flag: --x"]);
    assert_eq!(problems("CMD --x"), ["2:5 unknown flag: --x"]);
    assert_eq!(problems("FROM --x y"), ["2:6 unknown flag: --x"]);
}

#[test]
fn commands() {
    let command = |text: &str| match one(text).instruction {
        Instruction::Cmd(command) | Instruction::Entrypoint(command) => command,
        Instruction::Run(run) => run.command,
        other => panic!("{other:?}"),
    };
    assert_eq!(command("CMD"), Command::Shell(Text::default()));
    assert_eq!(command("CMD []"), Command::Exec(vec![]));
    assert_eq!(command("CMD echo \"a  b\" # tail"), Command::Shell("echo \"a  b\" # tail".into()));
    assert_eq!(command("ENTRYPOINT [\"a\", \"b c\"]"), Command::Exec(strings(&["a", "b c"])));
    assert_eq!(command("RUN --network=none [\"a\"]"), Command::Exec(strings(&["a"])));
    assert_eq!(command("RUN ['a']"), Command::Shell("['a']".into()));
    assert!(
        matches!(one("SHELL [\"a\",\"b\"]").instruction, Instruction::Shell(w) if w.len() == 2)
    );
    assert_eq!(
        problems("SHELL a b\nSHELL []\nSHELL\nENTRYPOINT [1]"),
        [
            "2:7 SHELL requires the arguments to be in JSON form",
            "3:1 SHELL requires at least one argument",
            "4:1 SHELL requires at least one argument",
            "5:12 when using JSON array syntax, arrays must be comprised of strings only",
        ]
    );
}

#[test]
fn run_flags() {
    let Instruction::Run(run) = one(
        "RUN --mount=type=cache,target=/c --mount=from=b,target=/d --network=host --security=insecure --device=x.y/z=a,required true",
    )
    .instruction
    else {
        panic!("a RUN")
    };
    assert_eq!(run.mounts.len(), 2);
    assert_eq!(run.mounts[1].from.as_deref(), Some("b"));
    assert_eq!((run.network, run.security), (Network::Host, Security::Insecure));
    assert_eq!(run.devices, [Device { name: "x.y/z=a".into(), required: true }]);
    assert_eq!(
        problems(
            "RUN --network= x\nRUN --security=lax x\nRUN --mount=from=$a,target=/x y\nRUN --mount= x"
        ),
        [
            "2:5 invalid value for --network: \"\"",
            "3:5 invalid value for --security: \"lax\"",
            "4:5 'from' doesn't support variable expansion, define alias stage instead",
            "5:5 failed to parse csv mounts: EOF",
        ]
    );
}

#[test]
fn run_scripts() {
    let script = |text: &str| match one(text).instruction {
        Instruction::Run(run) => run.script(),
        other => panic!("{other:?}"),
    };
    let shell = |text: &str| RunScript::Shell(text.into());
    assert_eq!(script("RUN a b"), shell("a b"));
    assert_eq!(script("RUN <<EOF\na\nb\nEOF"), shell("a\nb\n"));
    assert_eq!(script("RUN <<-EOF\n\ta\n\t\tb\n\tEOF"), shell("a\nb\n"));
    assert_eq!(script("RUN cat <<EOF >x\n$y\nEOF"), shell("cat <<EOF >x\n$y\nEOF"));
    assert_eq!(script("RUN <<A <<B\na\nA\nb\nB"), shell("<<A <<B\na\nA\nb\nB"));
    assert_eq!(script("RUN cat <<-'A'\n\ta\n\tA"), shell("cat <<-'A'\n\ta\nA"));
    assert_eq!(
        script("RUN --mount=type=cache,target=/c <<'EOF'\n#!/bin/x\na\nEOF"),
        RunScript::File { name: "EOF".into(), content: b"#!/bin/x\na\n".to_vec() }
    );
    assert_eq!(
        script("RUN <<-EOF\n\t#!/bin/x\n\tEOF"),
        RunScript::File { name: "EOF".into(), content: b"#!/bin/x\n".to_vec() }
    );
    assert_eq!(script("RUN [\"<<EOF\"]"), RunScript::Exec(strings(&["<<EOF"])));
}

fn copy_of(text: &str) -> Copy {
    match one(text).instruction {
        Instruction::Copy(copy) | Instruction::Add(copy) => copy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn copies() {
    let copy = copy_of(
        "COPY --from=s --chown=$u:g --chmod=u+x --link --parents --exclude=a --exclude=b x \"y\" /d/",
    );
    assert_eq!((copy.sources, copy.dest.as_str()), (strings(&["x", "\"y\""]), "/d/"));
    assert_eq!((copy.from.as_deref(), copy.chown.as_deref()), (Some("s"), Some("$u:g")));
    assert_eq!((copy.chmod.as_deref(), copy.link, copy.parents), (Some("u+x"), true, true));
    assert_eq!(copy.excludes, ["a", "b"]);
    let add = copy_of("ADD --checksum=sha256:x --keep-git-dir --unpack=FALSE --link=true a b");
    assert_eq!(
        (add.checksum.as_deref(), add.keep_git_dir, add.unpack),
        (Some("sha256:x"), Some(true), Some(false))
    );
    assert_eq!(copy_of("COPY [\"a b\", \"c\", \"/d e/\"]").sources, ["a b", "c"]);
    assert_eq!(
        problems(
            "COPY a\nCOPY\nCOPY [\"a\"]\nCOPY --link= a b\nCOPY --link=maybe a b\nCOPY --chown a b\nADD --from=x a b\nCOPY --from=$x a b\nCOPY a <<EOF\nEOF"
        ),
        [
            "2:6 COPY requires at least two arguments, but only one was provided. Destination could not be determined",
            "3:1 COPY requires at least two arguments, but only one was provided. Destination could not be determined",
            "4:6 COPY requires at least two arguments, but only one was provided. Destination could not be determined",
            "5:6 missing a value on flag: --link",
            "6:6 expecting boolean value for flag --link, not: maybe",
            "7:6 missing a value on flag: --chown",
            "8:5 unknown flag: --from",
            "9:6 variable expansion is not supported for --from: $x",
            "10:8 COPY cannot accept a heredoc as a destination",
        ]
    );
}

#[test]
fn copy_heredocs() {
    let copy = copy_of("COPY <<EOF a.txt <<-'b' /d/\nx\nEOF\n\ty\nb");
    assert_eq!(copy.sources, ["a.txt"]);
    let source = |name: &str, content: &str, expand| CopySource {
        name: name.into(),
        content: content.as_bytes().into(),
        expand,
    };
    assert_eq!(copy.heredocs, [source("EOF", "x\n", true), source("b", "y\n", false)]);
    let twice = copy_of("COPY <<E <<E /d/\n1\nE\n2\nE");
    assert_eq!(twice.heredocs, [source("E", "2\n", true), source("E", "2\n", true)]);
    assert_eq!(copy_of("COPY [\"<<E\", \"/d\"]").heredocs, [source("E", "", true)]);
}

#[test]
fn healthchecks() {
    let check = |text: &str| match one(text).instruction {
        Instruction::Healthcheck(check) => check.history(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        check("HEALTHCHECK --interval=5s --start-interval=1ms --retries=2 CMD a  b"),
        "{Test:[CMD-SHELL a  b] Interval:5s Timeout:0s StartPeriod:0s StartInterval:1ms Retries:2}"
    );
    assert_eq!(
        check("healthcheck cmd [\"a\", \"b\"]"),
        "{Test:[CMD a b] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"
    );
    assert_eq!(
        check("HEALTHCHECK --interval=x none []"),
        "{Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"
    );
    assert!(check("HEALTHCHECK CMD --interval=5s x").contains("[CMD-SHELL --interval=5s x]"));
    assert!(check("HEALTHCHECK --interval= --timeout=0 CMD x").contains("Timeout:0s"));
    assert_eq!(
        problems(
            "HEALTHCHECK NONE x\nHEALTHCHECK CMD\nHEALTHCHECK x y\nHEALTHCHECK --timeout=10us CMD x\nHEALTHCHECK --interval=-1s CMD x\nHEALTHCHECK CMD []"
        ),
        [
            "2:13 HEALTHCHECK NONE takes no arguments",
            "3:13 Missing command after HEALTHCHECK CMD",
            "4:13 Unknown type \"X\" in HEALTHCHECK (try CMD)",
            "5:13 Interval \"timeout\" cannot be less than 1ms",
            "6:13 Interval \"interval\" cannot be less than 1ms",
            "7:13 Missing command after HEALTHCHECK CMD",
        ]
    );
}

#[test]
fn words() {
    let words = |text: &str| match one(text).instruction {
        Instruction::Expose(words) | Instruction::Volume(words) => words,
        other => panic!("{other:?}"),
    };
    assert_eq!(words("EXPOSE 9  80 $P"), ["$P", "80", "9"]);
    assert_eq!(words("VOLUME /b /a"), ["/b", "/a"]);
    assert_eq!(words("VOLUME [\"/a b\"]"), ["/a b"]);
    assert_eq!(words("VOLUME ['/a', '/b']"), ["['/a',", "'/b']"]);
    assert_eq!(problems("VOLUME [\" \"]"), ["2:8 VOLUME specified can not be an empty string"]);
    assert!(matches!(one("USER  a b ").instruction, Instruction::User(user) if user == "a b"));
    assert_eq!(problems("WORKDIR"), ["2:1 WORKDIR requires exactly one argument"]);
}

#[test]
fn triggers() {
    let text = |line: &str| match one(line).instruction {
        Instruction::OnBuild(onbuild) => onbuild.text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text("ONBUILD RUN echo   a  \"b\"   $C"), "RUN echo   a  \"b\"   $C");
    assert_eq!(text("onbuild   ENV A=1   B=2  "), "ENV A=1   B=2  ");
    assert_eq!(text("ONBUILD RUN <<EOF\na\nEOF"), "RUN <<EOF\na\nEOF");
    assert_eq!(text("ONBUILD FROBNICATE x"), "FROBNICATE x");
    assert_eq!(text("ONBUILD COPY x"), "COPY x");
    assert_eq!(
        problems(
            "ONBUILD\nONBUILD ONBUILD RUN x\nONBUILD from x\nONBUILD ENV a=1 b\nONBUILD CMD [1]\nONBUILD --x RUN y"
        ),
        [
            "2:1 ONBUILD requires at least one argument",
            "3:9 chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            "4:9 FROM isn't allowed as an ONBUILD trigger",
            "5:9 Syntax error - can't find = in \"b\". Must be of the form: name=value",
            "6:9 when using JSON array syntax, arrays must be comprised of strings only",
            "7:9 unknown flag: --x",
        ]
    );
    let triggered = parse_onbuild("COPY --from=x <<EOF /d\nhi\nEOF").expect("one instruction");
    assert!(matches!(triggered.instruction, Instruction::Copy(copy) if copy.heredocs.len() == 1));
    for bad in ["", "RUN a\nRUN b", "FROBNICATE x", "COPY a", "FROM x", "RUN <<EOF\nx"] {
        assert!(parse_onbuild(bad).is_err(), "{bad}");
    }
}

#[track_caller]
fn mount(text: &str) -> Result<Mount, String> {
    let scope = vec![("T".to_owned(), "tmpfs".to_owned()), ("D".to_owned(), "dir".to_owned())];
    mount::parse(text, &mut |word| Ok(expand(word, '\\', &scope)?.text.into()))
        .map_err(|error| error.to_string())
}

#[test]
fn mounts() {
    let cache =
        mount("TYPE=Cache,Target=/x,id=i,sharing=LOCKED,mode=0750,uid=1,gid=2,from=s,src=/y")
            .expect("fine");
    assert_eq!(
        cache,
        Mount {
            kind: MountKind::Cache,
            target: "/x".into(),
            id: Some("i".into()),
            sharing: Some(Sharing::Locked),
            mode: Some(0o750),
            uid: Some(1),
            gid: Some(2),
            from: Some("s".into()),
            source: Some("/y".into()),
            ..Mount::default()
        }
    );
    let bind = mount("source=$D${NOPE},\"target=/x,y\"").expect("fine");
    assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
    assert_eq!((bind.source.as_deref(), bind.target.as_str()), (Some("dir"), "/x,y"));
    assert!(!mount("target=/x,rw").expect("fine").read_only);
    assert!(mount("target=/x,rw=false").expect("fine").read_only);
    assert!(mount("type=cache,target=/x,ro").expect("fine").read_only);
    assert_eq!(mount("type=$T,target=/t,size=1.5k").expect("fine").size, Some(1536));
    assert_eq!(mount("type=tmpfs,target=/t,size=2 GiB").expect("fine").size, Some(2 << 30));
    assert_eq!(mount("type=tmpfs,target=/t,size=3tb").expect("fine").size, Some(3 << 40));
    let secret = mount("type=secret,id=t,env=E,required").expect("fine");
    assert_eq!((secret.env.as_deref(), secret.required, secret.read_only), (Some("E"), true, true));
    assert_eq!(mount("type=ssh").expect("fine").kind, MountKind::Ssh);
}

#[test]
fn mounts_refused() {
    for (text, message) in [
        ("type=floppy,target=/a", "unsupported mount type \"floppy\""),
        ("type=chache,target=/a", "unsupported mount type \"chache\" (did you mean cache?)"),
        ("target=/a,colour=red", "unexpected key 'colour' in 'colour=red'"),
        (
            "type=cache,sharin=locked",
            "unexpected key 'sharin' in 'sharin=locked' (did you mean sharing?)",
        ),
        ("type=cache,target", "invalid field 'target' must be a key=value pair"),
        ("type=cache,target=/a,mode=0999", "invalid value for mode: 0999"),
        ("type=cache,target=/a,uid=app", "invalid value for uid: app"),
        ("type=cache,target=/a,gid=+1", "invalid value for gid: +1"),
        ("target=/a,ro=maybe", "invalid value for ro: maybe"),
        ("target=/a,mode=1", "mode not allowed for \"bind\" type mounts"),
        ("size=1,type=tmpfs", "unexpected key 'size' for mount type 'bind'"),
        ("required,type=ssh", "unexpected key 'required' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=tmpfs,size=1zb", "invalid value for size: 1zb"),
        ("type=tmpfs,size=1ib", "invalid value for size: 1ib"),
        ("target=/a,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=cache,target=/a,sharing=x", "unsupported sharing value \"x\""),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("target=${x", "syntax error: missing '}'"),
        ("a\"b", "failed to parse csv mounts: bare \" in non-quoted-field"),
        ("\"a", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
        ("\"a\"b", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
    ] {
        assert_eq!(mount(text).expect_err(text), message, "{text}");
    }
    let at = |target: &str, workdir: &str| {
        Mount { target: target.into(), ..Mount::default() }.absolute_target(workdir)
    };
    assert_eq!(at("x/../y", "/w").as_deref(), Ok("/w/y"));
    assert_eq!(at("/a//b/", "/w").as_deref(), Ok("/a/b"));
    assert_eq!(at("", "/w").as_deref(), Ok("/w"));
    assert!(at("/", "/w").is_err());
    assert!(at("", "/").is_err());
    assert!(at("..", "/w").is_err());
}

#[test]
fn ports() {
    let ports = |words: &[&str]| expose::parse_ports(words).map_err(|error| error.to_string());
    assert_eq!(
        ports(&["80", "81/UDP", "82/sctp", "83/"]).expect("fine"),
        ["80/tcp", "81/udp", "82/sctp", "83/tcp"]
    );
    assert_eq!(ports(&["8000-8002/udp"]).expect("fine"), ["8000/udp", "8001/udp", "8002/udp"]);
    assert_eq!(
        ports(&["127.0.0.1:1-2:80", "[::1]:1:81", "2:82"]).expect("fine"),
        ["80/tcp", "81/tcp", "82/tcp"]
    );
    assert_eq!(ports(&["0-65535"]).expect("fine").len(), 65_536);
    for (word, message) in [
        ("80/icmp", "invalid proto: icmp"),
        ("", "no port specified: <empty>"),
        ("/tcp", "no port specified: /tcp<empty>"),
        ("x", "invalid containerPort: x"),
        ("90-80", "invalid containerPort: 90-80"),
        ("1-2-3", "invalid containerPort: 1-2-3"),
        ("65536", "invalid containerPort: 65536"),
        ("+1", "invalid containerPort: +1"),
        ("x:80", "invalid hostPort: x"),
        ("1-2:1-3", "invalid ranges specified for container and host Ports: 1-3 and 1-2"),
        ("a.b:1:80", "invalid IP address: a.b"),
    ] {
        assert_eq!(ports(&[word]).expect_err(word), message);
    }
}

#[test]
fn signals() {
    for text in ["SIGINT", "hup", "9", "SIGRTMIN+3", "rtmax-14", "RTMIN", "-1", "sigkill", "64"] {
        assert!(signal::check(text).is_ok(), "{text}");
    }
    for text in
        ["", "0", "SIGNOPE", "RTMIN+16", "RTMAX-15", "RTMIN+03", "SIGSIGINT", "9x", "RTMIN+0"]
    {
        assert!(signal::check(text).is_err(), "{text}");
    }
}

//! What is no policy, and IAM's sentence for it.

use policy::PolicyKind::{Identity, Repository, Resource, Trust};
use policy::{Policy, PolicyKind, limits};

const SYNTAX: &str = "Syntax errors in policy.";
const LEGACY: &str = "The policy failed legacy parsing";
const VENDOR: &str = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.";
const SERVICE: &str = "Resource vendor must be fully qualified and cannot contain regexes.";
const TRUST: &str = "AssumeRole policy may only specify STS AssumeRole actions.";

fn refusal(text: &str, kind: PolicyKind) -> String {
    match Policy::parse(text, kind) {
        Ok(_) => panic!("taken: {text}"),
        Err(why) => {
            assert!(!why.explain().is_empty());
            why.to_string()
        }
    }
}

fn statement(members: &str) -> String {
    format!(r#"{{"Version": "2012-10-17", "Statement": [{{{members}}}]}}"#)
}

#[test]
fn documents_that_are_none_are_syntax_errors() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "\u{feff}{}",
        "{} x",
        r#"{"Version": "2012-10-17"}"#,
        r#"{"Version": "2012-10-17", "Statement": []}"#,
        r#"{"Version": 20121017, "Statement": {}}"#,
        r#"{"Statement": ["x"]}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}, "Other": 1}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Other": 1}}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Effect": "Deny"}}"#,
        r#"{"Statement": {"Effect": "allow", "Action": "*", "Resource": "*"}}"#,
        r#"{"Statement": {"Action": "*", "Resource": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "NotResource": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": [["*"]], "Resource": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": {"a": "b"}}}"#,
        "{\"Statement\": {\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}} \u{2028}",
    ] {
        assert_eq!(refusal(text, Identity), SYNTAX, "{text}");
    }
    let deep = format!("{{\"Statement\": {}1{}}}", "[".repeat(60_000), "]".repeat(60_000));
    assert_eq!(refusal(&deep, Identity), SYNTAX);
    let deep =
        format!("{{\"Statement\": {{\"Effect\": {}1{}}}}}", "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(refusal(&deep, Identity), SYNTAX);
    let long = format!("{{\"Id\": \"{}\"}}", "x".repeat(limits::DOCUMENT_BYTES_MAX));
    assert_eq!(refusal(&long, Identity), SYNTAX);
}

#[test]
fn conditions_that_cannot_be_asked_are_refused() {
    for condition in [
        r#"{"StringEqual": {"aws:x": "y"}}"#,
        r#"{"stringequals": {"aws:x": "y"}}"#,
        r#"{"NullIfExists": {"aws:x": "true"}}"#,
        r#"{"ForAllValues:Null": {"aws:x": "true"}}"#,
        r#"{"ForSomeValues:StringEquals": {"aws:x": "y"}}"#,
        r#"{"Null": {"aws:x": "perhaps"}}"#,
        r#"{"Bool": {"aws:x": "1"}}"#,
        r#"{"NumericEquals": {"aws:x": "many"}}"#,
        r#"{"DateLessThan": {"aws:x": "tomorrow"}}"#,
        r#"{"IpAddress": {"aws:x": "10.0.0.0/99"}}"#,
        r#"{"BinaryEquals": {"aws:x": "*"}}"#,
        r#"{"StringEquals": {"aws:x": null}}"#,
        r#"{"StringEquals": {"aws:x": {"y": "z"}}}"#,
        r#"{"StringEquals": {"aws:x": "${aws:username"}}"#,
        r#"{"StringEquals": "aws:x"}"#,
        r#"["StringEquals"]"#,
    ] {
        let members = format!(
            r#""Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}"#
        );
        assert_eq!(refusal(&statement(&members), Identity), SYNTAX, "{condition}");
    }
}

#[test]
fn each_fault_has_its_sentence() {
    let cases: &[(&str, &str)] = &[
        (r#""Effect": "Allow", "Resource": "*""#, "Policy statement must contain actions."),
        (
            r#""Effect": "Allow", "Action": [], "Resource": "*""#,
            "Policy statement must contain actions.",
        ),
        (r#""Effect": "Allow", "Action": "ecs:*""#, "Policy statement must contain resources."),
        (
            r#""Effect": "Allow", "Action": "ecs:*", "Resource": []"#,
            "Policy statement must contain resources.",
        ),
        (r#""Effect": "Allow", "Action": "RunTask", "Resource": "*""#, VENDOR),
        (r#""Effect": "Allow", "Action": "*:List*", "Resource": "*""#, VENDOR),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"x": "true"}}"#,
            VENDOR,
        ),
        (
            r#""Effect": "Allow", "Action": "ecs:Run:Task", "Resource": "*""#,
            "Actions/Condition can contain only one colon.",
        ),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "bucket""#,
            "Resource bucket must be in ARN format or \"*\".",
        ),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws-cn:s3:::b""#,
            "Partition \"aws-cn\" is not valid for resource \"arn:aws-cn:s3:::b\".",
        ),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:*:::b""#, SERVICE),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3*""#, SERVICE),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::""#, LEGACY),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:b""#, LEGACY),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:ecs:r:12345:x""#, LEGACY),
        (r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:ecs:${aws:x}:*:x""#, LEGACY),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*""#,
            "Policy document should not specify a principal.",
        ),
        (
            r#""Sid": "a-b", "Effect": "Allow", "Action": "*", "Resource": "*""#,
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        ),
    ];
    for (members, sentence) in cases {
        assert_eq!(refusal(&statement(members), Identity), *sentence, "{members}");
        assert_eq!(refusal(&statement(members), PolicyKind::Boundary), *sentence, "{members}");
        assert_eq!(refusal(&statement(members), PolicyKind::Session), *sentence, "{members}");
    }
    let twice = r#""Sid": "a", "Effect": "Allow", "Action": "*", "Resource": "*""#;
    let twice = format!("{{\"Statement\": [{{{twice}}}, {{{twice}}}]}}");
    assert_eq!(refusal(&twice, Identity), "Statement IDs (SID) in a single policy must be unique.");
    let version = r#"{"Version": "2015-01-01", "Statement": []}"#;
    assert_eq!(
        refusal(version, Identity),
        "Policy document must be version 2012-10-17 or greater."
    );
}

#[test]
fn trust_policies_name_who_may_assume_and_nothing_else() {
    let role = r#""Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}"#;
    for (members, sentence) in [
        (
            format!(r#"{role}, "Action": "sts:AssumeRole", "Resource": "*""#),
            "Has prohibited field Resource",
        ),
        (
            format!(r#"{role}, "Action": "sts:AssumeRole", "NotResource": "*""#),
            "Has prohibited field NotResource",
        ),
        (format!(r#"{role}, "Action": "*""#), TRUST),
        (format!(r#"{role}, "Action": ["sts:AssumeRole", "ecs:RunTask"]"#), TRUST),
        (format!(r#"{role}, "Action": "sts:GetCallerIdentity""#), TRUST),
        (
            r#""Effect": "Allow", "Action": "sts:AssumeRole""#.to_owned(),
            "Missing required field Principal",
        ),
        (
            r#""Effect": "Deny", "NotPrincipal": "*", "Action": "sts:AssumeRole""#.to_owned(),
            "Has prohibited field NotPrincipal",
        ),
    ] {
        assert_eq!(refusal(&statement(&members), Trust), sentence, "{members}");
    }
    for (principal, shown) in [
        (
            r#"{"AWS": "arn:aws:iam::111122223333:role/*"}"#,
            r#""AWS":"arn:aws:iam::111122223333:role/*""#,
        ),
        (
            r#"{"AWS": "arn:aws:iam::111122223333:group/g"}"#,
            r#""AWS":"arn:aws:iam::111122223333:group/g""#,
        ),
        (r#"{"AWS": "arn:aws:iam::12345:user/u"}"#, r#""AWS":"arn:aws:iam::12345:user/u""#),
        (r#"{"AWS": "alice"}"#, r#""AWS":"alice""#),
        (r#"{"Service": "*"}"#, r#""SERVICE":"*""#),
        (r#"{"Robot": "x"}"#, r#""ROBOT":"x""#),
    ] {
        let members =
            format!(r#""Effect": "Allow", "Principal": {principal}, "Action": "sts:AssumeRole""#);
        let sentence = format!("Invalid principal in policy: {shown}");
        assert_eq!(refusal(&statement(&members), Trust), sentence, "{members}");
    }
    let bare = r#""Effect": "Allow", "Principal": "arn:aws:iam::111122223333:user/u", "Action": "sts:AssumeRole""#;
    assert_eq!(refusal(&statement(bare), Trust), SYNTAX);
}

#[test]
fn a_provider_of_everybodys_identities_is_trusted_for_some_of_them_only() {
    let trust = |condition: &str| {
        let members = format!(
            r#""Effect": "Allow", "Principal": {{"Federated": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"}}, "Action": "sts:AssumeRoleWithWebIdentity"{condition}"#
        );
        statement(&members)
    };
    let any = [
        "",
        r#", "Condition": {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}}"#,
        r#", "Condition": {"StringLike": {"token.actions.githubusercontent.com:sub": "*"}}"#,
        r#", "Condition": {"StringLike": {"token.actions.githubusercontent.com:sub": ["repo:a/b:*", "*"]}}"#,
        r#", "Condition": {"StringNotLike": {"token.actions.githubusercontent.com:sub": "repo:a/b:*"}}"#,
        r#", "Condition": {"StringLikeIfExists": {"token.actions.githubusercontent.com:sub": "repo:a/b:*"}}"#,
        r#", "Condition": {"Null": {"token.actions.githubusercontent.com:sub": "false"}}"#,
    ];
    for condition in any {
        // A role that has such a policy keeps it.
        let read = Policy::parse(&trust(condition), Trust).unwrap();
        let sentence = read.check_subjects().unwrap_err().to_string();
        assert!(sentence.contains("token.actions.githubusercontent.com:sub"), "{sentence}");
    }
    let one = trust(
        r#", "Condition": {"StringLike": {"token.actions.githubusercontent.com:sub": "repo:a/b:*"}}"#,
    );
    let is_taken = |text: &str| Policy::parse(text, Trust).unwrap().check_subjects().is_ok();
    assert!(is_taken(&one));
    assert!(is_taken(&trust("").replace("Allow", "Deny")));
}

#[test]
fn a_trust_policy_names_services_that_there_are() {
    let trust = |service: &str| {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"Service": ["ec2.amazonaws.com", "{service}"]}}, "Action": "sts:AssumeRole"}}]}}"#
        );
        // A role that has such a policy keeps it.
        Policy::parse(&text, Trust).unwrap().check_subjects()
    };
    assert!(trust("ecs-tasks.amazonaws.com").is_ok());
    let sentence = trust("ecs-task.amazonaws.com").unwrap_err().to_string();
    assert_eq!(sentence, r#"Invalid principal in policy: "SERVICE":"ecs-task.amazonaws.com""#);
}

#[test]
fn what_iam_takes_is_taken() {
    for (members, kind) in [
        (
            r#""Sid": "", "Effect": "Allow", "Action": ["ecs:*", "S3:get?bject"], "Resource": ["*", "arn:aws:s3:::b/*"]"#,
            Identity,
        ),
        (
            r#""Effect": "Deny", "NotAction": "iam:*", "NotResource": "arn:aws:logs:*", "Condition": {}"#,
            Identity,
        ),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "arn:*:iam::aws:policy/x", "Condition": {"Bool": {"aws:x": true}, "NumericLessThan": {"a:b": [1, 2.5]}, "StringEquals": {"aws:ResourceTag/aws:cloudformation:stack-name": "s"}}"#,
            Identity,
        ),
        (
            r#""Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/${aws:username}-${*}""#,
            Identity,
        ),
        (
            r#""Sid": "Allow all of it", "Effect": "Allow", "Principal": {"AWS": ["*", "111122223333", "AIDAJQABLZS4A3QDU576Q"], "CanonicalUser": "79a59d"}, "Action": "kms:*", "Resource": "*""#,
            Resource,
        ),
        (
            r#""Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:sts::111122223333:assumed-role/r/s"}, "Action": "ecr:*""#,
            Repository,
        ),
        (
            r#""Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/host/path", "Service": ["ecs.amazonaws.com"]}, "Action": ["sts:AssumeRole*", "sts:TagSession"]"#,
            Trust,
        ),
    ] {
        let policy = Policy::parse(&statement(members), kind);
        assert!(policy.is_ok(), "{members}: {}", policy.expect_err("refused").explain());
    }
    assert_eq!(limits::counted_size("{ \"a\":\n\t\"b c\" }"), 10);
}

#[test]
fn the_explanation_names_the_statement_and_what_is_wrong() {
    let text = r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEqual": {}}}]}"#;
    let why = Policy::parse(text, Identity).expect_err("refused");
    assert_eq!(why.explain(), "statement 2: there is no condition operator `StringEqual`");
}

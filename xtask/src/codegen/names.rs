//! Names of the model as names of Rust.

/// Words that can't name a member as they are.
const KEYWORDS: [&str; 15] = [
    "type", "ref", "match", "loop", "return", "move", "async", "await", "dyn", "enum", "use",
    "where", "final", "in", "override",
];

/// `containerInstanceARNs` → `container_instance_arns`, `type` → `r#type`.
pub(super) fn member(name: &str) -> String {
    let snake = snake(name);
    if KEYWORDS.contains(&snake.as_str()) { format!("r#{snake}") } else { snake }
}

/// `RunTask` → `run_task`
pub(super) fn snake(name: &str) -> String {
    let mut plain = name.to_owned();
    for (odd, even) in [
        ("IPv", "Ipv"),
        ("ARNs", "Arns"),
        ("VPCs", "Vpcs"),
        ("IDs", "Ids"),
        ("MiB", "Mib"),
        ("GiB", "Gib"),
    ] {
        plain = plain.replace(odd, even);
    }
    let letters: Vec<char> = plain.chars().collect();
    let mut out = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() && 0 < at {
            let before = letters[at - 1];
            let after_is_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            let begins_word = before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && after_is_lower);
            if begins_word {
                out.push('_');
            }
        }
        out.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    }
    out
}

/// `RunTaskRequest` → `RUN_TASK_REQUEST`
pub(super) fn constant(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

/// The name of a shape's type, which must begin with a capital.
pub(super) fn shape(name: &str) -> String {
    capitalised(name)
}

/// `FARGATE_SPOT` → `FargateSpot`, `awslogs` → `Awslogs`, `none` → `None_`, `2021` → `N2021`.
pub(super) fn variant(value: &str) -> String {
    let mut out = String::new();
    for word in value.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        let shouted = !word.bytes().any(|byte| byte.is_ascii_lowercase());
        out.push_str(&capitalised(&if shouted { word.to_ascii_lowercase() } else { word.into() }));
    }
    if out.is_empty() || out.starts_with(|letter: char| letter.is_ascii_digit()) {
        out.insert(0, 'N');
    }
    if ["None", "Unknown", "Self", "Some", "Ok", "Err"].contains(&out.as_str()) {
        out.push('_');
    }
    out
}

pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_rust_writes_them() {
        assert_eq!(member("containerInstanceARNs"), "container_instance_arns");
        assert_eq!(member("type"), "r#type");
        assert_eq!(member("associatePublicIpAddress"), "associate_public_ip_address");
        assert_eq!(member("IPv6CIDRBlock"), "ipv6_cidr_block");
        assert_eq!(constant("DescribeVpcsResult"), "DESCRIBE_VPCS_RESULT");
        assert_eq!(variant("FARGATE_SPOT"), "FargateSpot");
        assert_eq!(variant("awslogs"), "Awslogs");
        assert_eq!(variant("json-file"), "JsonFile");
        assert_eq!(variant("awsvpcTrunking"), "AwsvpcTrunking");
        assert_eq!(variant("none"), "None_");
        assert_eq!(variant("UNKNOWN"), "Unknown_");
        assert_eq!(variant("2014"), "N2014");
    }
}

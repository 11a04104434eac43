//! `longshore connect`: what was asked at the endpoints of Service Connect, by whom, and how it was answered.

use region::connect_figures::{ConnectRow, ListedConnectFigures};
use serde_json::json;

use crate::cli::Connect;
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::table;

pub(crate) async fn run(data: &DataDir, args: &Connect) -> Result<(), Error> {
    let client = connect(data)?;
    let listed: ListedConnectFigures = client.own("ListConnectFigures", &json!({})).await?;
    if args.json {
        println!("{}", json!({ "endpoints": listed.endpoints, "leftOff": listed.left_off }));
    } else {
        print!("{}", render(&listed));
    }
    Ok(())
}

fn render(listed: &ListedConnectFigures) -> String {
    if listed.endpoints.is_empty() {
        return "no figures: nothing was asked at an endpoint of Service Connect since the region began\n"
            .to_owned();
    }
    let header = [
        "NAMESPACE",
        "ENDPOINT",
        "SERVICE",
        "CLIENT",
        "REQUESTS",
        "2XX",
        "3XX",
        "4XX",
        "5XX",
        "P50",
        "P99",
        "OPEN",
        "CONNECTIONS",
        "BYTES",
        "TLS ERRORS",
    ];
    let rows: Vec<Vec<String>> = listed.endpoints.iter().map(row).collect();
    let mut text = table::render(&header, &rows);
    if 0 < listed.left_off {
        text.push_str(&format!("and {} more\n", listed.left_off));
    }
    text
}

fn row(it: &ConnectRow) -> Vec<String> {
    let ConnectRow { namespace, discovery_name, service, client, counted } = it;
    let time = |hundredths| counted.percentile_us(hundredths).map_or_else(|| "-".to_owned(), ms);
    let [ok, moved, refused, failed] = counted.answers.map(|count| count.to_string());
    let bytes = counted.bytes_in.saturating_add(counted.bytes_out);
    let tls_errors = counted.client_tls_errors.saturating_add(counted.target_tls_errors);
    vec![
        namespace.clone(),
        discovery_name.clone(),
        service.clone(),
        client.clone().unwrap_or_else(|| "(coming in)".to_owned()),
        counted.requests.to_string(),
        ok,
        moved,
        refused,
        failed,
        time(50),
        time(99),
        counted.open.to_string(),
        counted.connections.to_string(),
        bytes.to_string(),
        tls_errors.to_string(),
    ]
}

/// `1.6ms`: no answer of these took longer.
fn ms(us: u64) -> String {
    format!("{}.{}ms", us / 1_000, us % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use traffic::figures::{Counted, TIME_BUCKETS, bucket_of};

    use super::*;

    #[test]
    fn a_row_says_who_asked_where_and_how_it_went() {
        let mut times = vec![0; TIME_BUCKETS];
        (times[bucket_of(400)], times[bucket_of(6_400)]) = (95, 5);
        let counted =
            Counted { requests: 101, answers: [98, 0, 1, 1], times, ..Counted::default() };
        let row = ConnectRow {
            namespace: "mesh".to_owned(),
            discovery_name: "shop".to_owned(),
            service: "default/shop".to_owned(),
            client: Some("default/web".to_owned()),
            counted,
        };
        let text = render(&ListedConnectFigures { endpoints: vec![row], left_off: 2 });
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = "mesh shop default/shop default/web 101 98 0 1 1 0.4ms 6.4ms 0 0 0 0";
        assert_eq!(words.join(" "), expected);
        assert!(text.ends_with("and 2 more\n"), "{text}");
        let none = ListedConnectFigures { endpoints: vec![], left_off: 0 };
        assert!(render(&none).starts_with("no figures"));
    }
}

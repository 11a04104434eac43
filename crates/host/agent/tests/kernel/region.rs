//! A region that notes what it is told, and takes a named put once, as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// SubmitTaskStateChange, in order.
    pub(crate) events: Vec<Value>,
    pub(crate) lines: Vec<String>,
    /// The last token of each stream.
    tokens: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Region {
    /// In the calling thread's network namespace. Serves until the test ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let theirs = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&theirs);
                thread::spawn(move || while serve(&stream, &heard).is_some() {});
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().unwrap())
    }
}

/// One request of a connection; `None` at its end. An agent that dies may cut off any of them.
fn serve(stream: &TcpStream, heard: &Mutex<Heard>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut target, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => target = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = answer(&target, serde_json::from_slice(&body).ok()?, heard).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length";
    let mut stream = stream;
    write!(stream, "{head}: {}\r\n\r\n{answer}", answer.len()).ok()
}

fn answer(target: &str, body: Value, heard: &Mutex<Heard>) -> Value {
    let operation = target.split_once('.').map_or(target, |(_, operation)| operation);
    let mut heard = heard.lock().unwrap();
    match operation {
        "SubmitTaskStateChange" => heard.events.push(body),
        "PutLogEvents" => {
            let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
            let (stream, token) = (text("logStreamName"), text("sequenceToken"));
            let last = heard.tokens.insert(stream, token.clone());
            if last != Some(token) {
                let lines = body["logEvents"].as_array().cloned().unwrap_or_default();
                let message = |line: &Value| line["message"].as_str().unwrap().to_owned();
                heard.lines.extend(lines.iter().map(message));
            }
        }
        _ => {}
    }
    json!({})
}

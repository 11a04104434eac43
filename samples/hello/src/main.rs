//! The sample task: `hello serve` answers HTTP on port 8080, `hello tick` prints a line a second, `hello ask NAME:PORT` asks
//! another one every second who it is. `hello serve quiet` keeps connections and says nothing of requests, for who
//! measures what is before it.
//!
//! Both print what they do, which is what the log driver picks up, and both end with code 0 when
//! they are asked to, which a program that is process 1 of its container must see to itself.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};

const PORT: u16 = 8080;
/// Longest request line that is read.
const LINE_BYTES_MAX: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_else(|| "serve".to_owned());
    let is_quiet = std::env::args().nth(2).is_some_and(|word| word == "quiet");
    let stop = match watch_signals() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let served = match command.as_str() {
        "serve" => serve(&stop, is_quiet),
        "tick" => {
            tick(&stop);
            Ok(())
        }
        "ask" => {
            ask(&stop, &std::env::args().nth(2).unwrap_or_default());
            Ok(())
        }
        other => {
            eprintln!("no such command: {other}; there are serve, tick and ask");
            return ExitCode::from(2);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Receives the name of the signal that asks for the end.
///
/// The signals are blocked before any thread starts, so that only the waiting thread gets them.
fn watch_signals() -> nix::Result<Receiver<Signal>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let (told, stop) = channel();
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            // Nobody listens only if the program ends anyway.
            let _ = told.send(signal);
        }
    });
    Ok(stop)
}

fn serve(stop: &Receiver<Signal>, is_quiet: bool) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    say(&format!("{} listens on port {PORT}", host()));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                if is_quiet {
                    // Whoever goes away has had enough.
                    let _ = answer_all(&connection);
                } else if let Err(error) = answer(&connection) {
                    say(&format!("a connection broke off: {error}"));
                }
            });
        }
    });
    if let Ok(signal) = stop.recv() {
        say(&format!("{signal}: goodbye"));
    }
    Ok(())
}

fn answer(mut connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let peer = connection.peer_addr()?;
    let mut lines = BufReader::new(io::Read::take(connection, LINE_BYTES_MAX));
    let mut request = String::new();
    lines.read_line(&mut request)?;
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        header.clear();
    }
    say(&format!("{} from {}", request.trim(), peer.ip()));
    let body = page();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    connection.flush()
}

/// Answers requests without bodies for as long as the other side keeps the connection.
fn answer_all(mut connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let body = page();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut lines = BufReader::new(connection);
    let mut line = String::new();
    loop {
        line.clear();
        if io::Read::take(&mut lines, LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            connection.write_all(answer.as_bytes())?;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a sample shows what its users would write")]
fn page() -> String {
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
    let metadata = variable("ECS_CONTAINER_METADATA_URI_V4").unwrap_or_else(|| "none".to_owned());
    let region = variable("AWS_REGION").unwrap_or_else(|| "unknown".to_owned());
    format!(
        "hello from {}\ntime      {}\nregion    {region}\nmetadata  {metadata}\n",
        host(),
        time(),
    )
}

/// The time of day in UTC.
#[expect(clippy::disallowed_methods, reason = "a sample shows what its users would write")]
fn time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02} UTC", now / 3600 % 24, now / 60 % 60, now % 60)
}

fn tick(stop: &Receiver<Signal>) {
    for number in 1_u64.. {
        say(&format!("tick {number}"));
        match stop.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(signal) => return say(&format!("{signal}: goodbye")),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn ask(stop: &Receiver<Signal>, whom: &str) {
    loop {
        match first_line(whom) {
            Ok(line) => say(&format!("{whom} says {line}")),
            Err(error) => say(&format!("{whom}: {error}")),
        }
        match stop.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(signal) => return say(&format!("{signal}: goodbye")),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The first line of the page at `NAME:PORT`.
fn first_line(whom: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(whom)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET / HTTP/1.1\r\nhost: {whom}\r\nconnection: close\r\n\r\n")?;
    let mut lines = BufReader::new(connection).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if !status.contains(" 200 ") {
        return Ok(status);
    }
    let mut after_head = lines.skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    let _blank = after_head.next();
    after_head.next().unwrap_or_else(|| Ok(String::new()))
}

/// A line of output. Nobody reading it is no reason to end.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_request_is_answered_with_a_page_that_names_the_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            answer(&connection).unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        server.join().unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains(&format!("hello from {}", host())), "{text}");
    }

    #[test]
    fn whoever_asks_is_told_who_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let whom = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || answer(&listener.accept().unwrap().0));
        assert_eq!(first_line(&whom).unwrap(), format!("hello from {}", host()));
        server.join().unwrap().unwrap();
    }

    #[test]
    fn a_quiet_one_answers_until_the_other_side_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || answer_all(&listener.accept().unwrap().0));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2)).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        server.join().unwrap().unwrap();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    }
}

//! A difficult registry in front of a good one: it cuts connections, and wants tokens.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;

use crate::world::{ACCOUNT, World};

type Body = BoxBody<Bytes, std::io::Error>;

/// How the front misbehaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// How many downloads of blobs end in the middle.
    pub(crate) cuts: usize,
    /// Whether a cut download ends before its first byte.
    pub(crate) gives_nothing: bool,
    /// Whether `Range` is as if it had not been said.
    pub(crate) knows_no_ranges: bool,
    pub(crate) tokens: Option<Tokens>,
}

/// A token server's rules.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// Who may have a token; anybody if there is none.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// Requests that a token is good for.
    pub(crate) uses: usize,
}

/// One request that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<u64>,
    pub(crate) authorization: Option<String>,
    /// Bytes of a blob that were sent.
    pub(crate) sent: usize,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    seen: Vec<Seen>,
    tokens_given: usize,
    uses: usize,
}

pub(crate) struct Front {
    pub(crate) world: World,
    pub(crate) host: String,
    state: Mutex<State>,
}

impl Front {
    pub(crate) async fn new(world: World, behaviour: Behaviour) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Mutex::new(State { behaviour, ..State::default() });
        let front = Arc::new(Self { world, host, state });
        let serving = Arc::downgrade(&front);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(front) = serving.upgrade() else { return };
                let service = hyper::service::service_fn(move |request| {
                    let front = Arc::clone(&front);
                    async move { Ok::<_, std::convert::Infallible>(front.answer(request).await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        front
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    pub(crate) fn tokens_given(&self) -> usize {
        self.state().tokens_given
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let authorization = header("authorization");
        let path = request.uri().path().to_owned();
        let range = header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok());
        let seen =
            Seen { path: path.clone(), range, authorization: authorization.clone(), sent: 0 };
        let number = {
            let mut state = self.state();
            state.seen.push(seen);
            state.seen.len() - 1
        };
        if path == "/token" {
            return self.give_token(request.uri().query().unwrap_or_default(), authorization);
        }
        if !self.lets_in(authorization.as_deref()) {
            let challenge = format!(
                "Bearer realm=\"http://{}/token\",service=\"front\",scope=\"repository:web:pull\"",
                self.host
            );
            let answer = Response::builder().status(401).header("www-authenticate", challenge);
            return answer.body(whole(Bytes::new())).unwrap();
        }
        self.pass_on(number, request.method().clone(), &path, range).await
    }

    fn give_token(&self, query: &str, authorization: Option<String>) -> Response<Body> {
        let mut state = self.state();
        let Some(tokens) = &state.behaviour.tokens else { return status(404) };
        let wanted = tokens.login.map(|(user, password)| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        let is_asked_well =
            query.contains("service=front") && query.contains("scope=repository:web:pull");
        if !is_asked_well {
            return status(400);
        }
        if wanted.is_some() && wanted != authorization {
            return status(401);
        }
        state.tokens_given += 1;
        state.uses = 0;
        let text = format!("{{\"token\":\"t{}\",\"expires_in\":300}}", state.tokens_given);
        Response::new(whole(text.into()))
    }

    fn lets_in(&self, authorization: Option<&str>) -> bool {
        let mut state = self.state();
        let Some(tokens) = state.behaviour.tokens.clone() else { return true };
        let newest = format!("Bearer t{}", state.tokens_given);
        let is_good = authorization == Some(&*newest) && state.uses < tokens.uses;
        state.uses += usize::from(is_good);
        is_good
    }

    async fn pass_on(
        &self,
        number: usize,
        method: Method,
        path: &str,
        range: Option<u64>,
    ) -> Response<Body> {
        let range = range.filter(|_| !self.state().behaviour.knows_no_ranges);
        let range_header = range.map(|from| format!("bytes={from}-"));
        let headers: Vec<(&str, &str)> =
            range_header.iter().map(|range| ("range", range.as_str())).collect();
        let is_blob = path.contains("/blobs/") && method == Method::GET;
        let mut got = self.world.ask_as(ACCOUNT, method, path, &headers, "").await;
        let mut answer = Response::builder().status(got.status);
        answer.headers_mut().unwrap().extend(got.headers.drain().filter_map(|(name, value)| {
            Some((name.filter(|name| name != "transfer-encoding")?, value))
        }));
        let cut = {
            let mut state = self.state();
            let is_cut = is_blob && got.body.len() > 1_000 && state.behaviour.cuts > 0;
            state.behaviour.cuts -= usize::from(is_cut);
            let at = if state.behaviour.gives_nothing { 0 } else { got.body.len() / 2 };
            let at = is_cut.then_some(at);
            if let Some(seen) = state.seen.get_mut(number).filter(|_| is_blob) {
                seen.sent = at.unwrap_or(got.body.len());
            }
            at
        };
        let body = match cut {
            None => whole(got.body),
            Some(at) => {
                let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                let half = Frame::data(got.body.slice(..at));
                let end = stream::once(async move {
                    // The half is sent while there is nothing else to do.
                    tokio::task::yield_now().await;
                    Err(broken())
                });
                BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(
                    stream::iter([Ok(half)]),
                    end,
                )))
            }
        };
        answer.body(body).unwrap()
    }
}

fn whole(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn status(code: u16) -> Response<Body> {
    Response::builder().status(code).body(whole(Bytes::new())).unwrap()
}

//! Requests to a hub: the token goes to the hub's own host only, redirects are followed here.

use crate::{Error, Result};
use std::time::Duration;
use ureq::http::{Request, Response, Uri, header};
use ureq::{Agent, Body};

/// More redirects than any hub needs.
const MAX_REDIRECTS: usize = 8;
/// Time to connect, and to wait for the answer's head or the next piece of its body.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The hub's answer about a repository is never larger.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// A connection to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// Which redirects to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// Those that stay at the hub; any other is the answer.
    SameOrigin,
    /// All.
    All,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "hidden");
        f.debug_struct("Client").field("endpoint", &self.endpoint).field("token", &token).finish()
    }
}

impl Client {
    /// Makes a client of the hub at `endpoint`, an http or https address.
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Result<Self> {
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let uri = endpoint.parse::<Uri>().ok().filter(|uri| origin(uri).is_some() && uri.query().is_none());
        let Some(uri) = uri else {
            return Err(Error::Request(format!(
                "HF_ENDPOINT is `{endpoint}`, expected http(s)://HOST[:PORT][/PATH]"
            )));
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Request("the hub token has characters that no token has".to_owned()));
        }
        let mut config = Agent::config_builder()
            .user_agent(concat!("wginfer/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT));
        if matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), endpoint, token })
    }

    /// The hub's address without a slash at the end.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for the head of a file, with the hub's own redirects followed.
    pub(super) fn head(&self, url: &str) -> Result<Response<Body>> {
        self.request("HEAD", url, None, Follow::SameOrigin)
    }

    /// Asks for a file from the byte `from` on.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Response<Body>> {
        self.request("GET", url, (from > 0).then(|| format!("bytes={from}-")), Follow::All)
    }

    /// Asks for a short text.
    pub(super) fn get_text(&self, url: &str) -> Result<String> {
        let mut response = self.get(url, 0)?;
        self.expect_success(url, &response)?;
        let body = response.body_mut().with_config().limit(MAX_TEXT_BYTES);
        body.read_to_string().map_err(|error| download_error(url, error.to_string()))
    }

    /// The error of an answer that is not a success.
    pub(super) fn expect_success(&self, url: &str, response: &Response<Body>) -> Result<()> {
        let status = response.status();
        let token =
            if self.token.is_some() { "the token that was sent has no access" } else { "no token was sent" };
        let message = match status.as_u16() {
            200..=299 => return Ok(()),
            401 | 403 => format!(
                "status {status}: the repository is private or gated, or there is none ({token}); accept its \
                 conditions at the hub and set HF_TOKEN"
            ),
            404 => format!("status {status}: the hub has no such repository, revision or file"),
            429 => format!("status {status}: the hub asks to wait"),
            _ => format!("status {status}"),
        };
        Err(download_error(url, message))
    }

    fn request(
        &self,
        method: &str,
        url: &str,
        range: Option<String>,
        follow: Follow,
    ) -> Result<Response<Body>> {
        let home = self.endpoint.parse::<Uri>().ok().and_then(|uri| origin(&uri));
        let mut target = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = target.parse().map_err(|_| download_error(url, "not an address"))?;
            let at_home = origin(&uri) == home;
            // Compressed answers would have another length and checksum.
            let mut request = Request::builder()
                .method(method)
                .uri(uri.clone())
                .header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = &range {
                request = request.header(header::RANGE, range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|error| download_error(url, error.to_string()))?;
            let response = self.agent.run(request).map_err(|error| download_error(url, error.to_string()))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| redirect_target(&uri, location));
            let next = next.ok_or_else(|| download_error(url, "redirected to no usable address"))?;
            if origin_of(&next) != home && follow == Follow::SameOrigin {
                return Ok(response);
            }
            if uri.scheme_str() == Some("https") && !next.starts_with("https:") {
                return Err(download_error(url, "redirected from https to http"));
            }
            target = next;
        }
        Err(download_error(url, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// Makes the error of a download.
pub(super) fn download_error(url: &str, message: impl Into<String>) -> Error {
    Error::Download { url: url.to_owned(), message: message.into() }
}

/// Scheme, host and port: what a token is bound to.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let port = uri.port_u16().unwrap_or(default_port);
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

fn origin_of(url: &str) -> Option<(String, String, u16)> {
    url.parse::<Uri>().ok().as_ref().and_then(origin)
}

/// The address of a redirect: absolute, or a path at the same host.
fn redirect_target(from: &Uri, location: &str) -> Option<String> {
    let target = if location.starts_with("//") {
        format!("{}:{location}", from.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?)
    } else {
        location.to_owned()
    };
    origin_of(&target).map(|_| target)
}

/// Escapes a path for an address; slashes stay.
pub(super) fn escape_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

//! The admin port: its paths, and what each answers.
//!
//! | path | answer |
//! |---|---|
//! | `/` | this list, as text |
//! | `/health` | 200 `ok`, or 503 with the fatal error: restart or replace the node |
//! | `/ready` | 200 `ready`, or 503 with what is missing as JSON: for load balancers and roll-outs |
//! | `/metrics` | Prometheus text |
//! | `/status` | this node alone, as JSON |
//! | `/cluster` | the whole cluster as this node finds it, as JSON: what `quorate status` shows |
//! | `/cluster?shard=N` | the same, with the size of the data of shard N's replicas |
//! | `POST /balance/leaders` | one round of spreading the leaders, as JSON |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use quorate::{Engine, ShardId, limits};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connections::{self, Bounds};
use super::metrics::Metrics;
use crate::report::{ClusterReport, StatusReport};

/// How long requests may continue once the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take for a request, and how long it may be idle before its next one.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a client may take for an answer that does not fit its window at once.
const ANSWER: Duration = Duration::from_secs(30);

/// The answer to `GET /`.
const PATHS: &str = "\
The admin port of a Quorate node. GET

  /health   200 `ok`, or 503 with the fatal error that ended its service
  /ready    200 `ready`, or 503 with what is missing
  /metrics  for Prometheus
  /status   this node, as JSON
  /cluster  the whole cluster as this node finds it, as JSON: what `quorate status` shows
  /cluster?shard=N  the same, with the size of the data of shard N's replicas

and POST

  /balance/leaders  one round of spreading the leaders: what `quorate balance leaders` does
";

struct Shared {
    engine: Engine,
    metrics: Metrics,
}

/// A running admin port.
pub(crate) struct AdminServer {
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl AdminServer {
    /// Serves facts about `engine` on `listener`, over at most `connections_max` connections.
    #[must_use]
    pub(crate) fn start(
        engine: Engine,
        metrics: Metrics,
        listener: TcpListener,
        connections_max: usize,
    ) -> AdminServer {
        let router = Router::new()
            .route("/", get(|| async { PATHS }))
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics_text))
            .route("/status", get(status))
            .route("/cluster", get(cluster))
            .route("/balance/leaders", post(balance_leaders))
            .fallback(|| async { (StatusCode::NOT_FOUND, PATHS) })
            .with_state(Arc::new(Shared { engine, metrics }));
        let bounds = Bounds { connections_max, request: REQUEST, answer: ANSWER, drain: DRAIN };
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(connections::serve(listener, router, bounds, stopping));
        AdminServer { stop, serving }
    }

    /// Stops accepting, and cuts off connections that do not end soon.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the admin port's task");
        }
    }
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    match shared.engine.fatal() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(error) => {
            let text = format!("stopped by a fatal error: {error}; repair it, then restart\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.engine.readiness();
    match readiness.ready {
        true => (StatusCode::OK, "ready\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(readiness)).into_response(),
    }
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text(&shared.engine).await {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    Json(StatusReport::from(&shared.engine.status().await)).into_response()
}

async fn cluster(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let (engine, timeout) = (&shared.engine, limits::STATUS_ANSWER);
    let measured = query.as_deref().map(|query| query.strip_prefix("shard=")?.parse().ok());
    let status = match measured {
        None => engine.cluster_status(timeout).await,
        Some(Some(shard)) => engine.cluster_status_of_shard(ShardId(shard), timeout).await,
        Some(None) => {
            let text = "write /cluster, or /cluster?shard=N with the number of a shard\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    Json(ClusterReport::from(&status)).into_response()
}

async fn balance_leaders(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.engine.balance_leaders().await).into_response()
}

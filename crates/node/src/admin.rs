//! The admin port.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200 `ok`, or 503 with the fatal error: restart or replace the node |
//! | `/ready` | 200 `ready`, or 503 with what is missing as JSON: for load balancers and roll-outs |
//! | `/metrics` | Prometheus text |
//! | `/status` | this node alone, as JSON |
//! | `/cluster` | the whole cluster as this node finds it, as JSON: what `quorate status` shows |
//! | `POST /balance/leaders` | one round of spreading the leaders, as JSON |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use quorate::{Engine, limits};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::metrics::Metrics;

/// How long requests may go on once the server stops.
const DRAIN: Duration = Duration::from_secs(2);

struct Shared {
    engine: Engine,
    metrics: Metrics,
}

/// A running admin port.
pub(crate) struct AdminServer {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl AdminServer {
    /// Serves facts about `engine` on `listener`.
    #[must_use]
    pub(crate) fn start(engine: Engine, metrics: Metrics, listener: TcpListener) -> AdminServer {
        let router = Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics_text))
            .route("/status", get(status))
            .route("/cluster", get(cluster))
            .route("/balance/leaders", post(balance_leaders))
            .with_state(Arc::new(Shared { engine, metrics }));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stopped = async {
                // An error is a sender that was dropped: the same as a stop.
                drop(stopped.await);
            };
            axum::serve(listener, router).with_graceful_shutdown(stopped).await
        });
        AdminServer { stop, serving }
    }

    /// Stops accepting, and cuts off what does not end soon.
    pub(crate) async fn stop(mut self) {
        if self.stop.send(()).is_err() {
            tracing::error!("the admin port had stopped before it was told to");
        }
        match tokio::time::timeout(DRAIN, &mut self.serving).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the admin port"),
            Ok(Err(error)) => tracing::error!(%error, "the admin port's task"),
            // An idle connection of a scraper; nothing is lost.
            Err(_) => self.serving.abort(),
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
    Json(shared.engine.status().await).into_response()
}

async fn cluster(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.engine.cluster_status(limits::STATUS_ANSWER).await).into_response()
}

async fn balance_leaders(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.engine.balance_leaders().await).into_response()
}

//! Types of the host that are on their way; goes once they are there.

#[derive(Clone, Debug)]
pub enum Control {
    BindRequest,
    Bound,
    Release,
    Query,
}

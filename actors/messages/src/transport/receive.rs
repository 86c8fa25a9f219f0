//! What an actix actor has to say to receive a message through a [`Port`](crate::Port), said once.

/// Implements `actix::Handler` for [`Delivery`](crate::Delivery)s: each line names a message, binds the actor, the
/// opened message and the context, and says what is done.
///
/// ```
/// # use rusd_messages::{Tick, receive};
/// struct Counter(u64);
/// impl actix::Actor for Counter {
///     type Context = actix::Context<Self>;
/// }
/// receive! { Counter:
///     Tick => |counter, tick, _context| counter.0 = tick.now_ms;
/// }
/// ```
#[macro_export]
macro_rules! receive {
    ($actor:ty: $($message:ty => |$this:ident, $opened:ident, $context:ident| $body:expr;)*) => {
        $(impl ::actix::Handler<$crate::Delivery<$message>> for $actor {
            type Result = ();

            #[allow(unused_variables)]
            fn handle(
                &mut self,
                delivery: $crate::Delivery<$message>,
                $context: &mut ::actix::Context<Self>,
            ) {
                let $this = self;
                let $opened = delivery.open();
                $body;
            }
        })*
    };
}

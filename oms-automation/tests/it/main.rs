//! Real runbooks in real processes, and the engine in a simulated world.

#[cfg(test)]
mod action;
#[cfg(test)]
mod host;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod released;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod run;
#[cfg(test)]
mod runbooks;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stop;

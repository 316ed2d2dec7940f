//! What a proxy does with its configuration: rule plan, route plan, and what a change requires. Pure.

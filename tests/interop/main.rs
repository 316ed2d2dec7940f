//! Tests against foreign tailnet programs found on PATH.

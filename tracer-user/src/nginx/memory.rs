//! What a worker's memory says about the configuration in force.

"""Projects, deployments, bindings and domains that are declared at run time, as pure values."""

// Package model holds the nouns that Berth stores: clusters, task definitions, tasks, services, deployments, load balancers,
// repositories. They are values: nothing here acts, and a value read from the store is never changed in place but copied.
// Passive documents (a container definition, a listener's action) are the AWS SDK's own types. Each field's comment, or that
// of its group, names the one writer of the field.
package model

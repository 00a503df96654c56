// Package grpc carries nodelink's sessions between machines: one bidirectional stream of the cluster port a session, the node's identity
// from its certificate. A message is JSON, cut into frames of at most 256 KiB; the definition of a task is sent once a session.
// Service is the server's side, Router the node's.
package grpc

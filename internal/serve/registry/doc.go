// Package registry serves the OCI distribution API (/v2) over a content-addressed blob store on disk. Which repositories,
// manifests and tags exist is in the platform's store; a blob without a row there is garbage, and Collect removes it.
package registry

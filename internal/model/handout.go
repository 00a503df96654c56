package model

// Handout is what a task's containers are given at their start and nobody keeps: the values of secrets, the contents of environment
// files, passwords of registries. It goes from a server to the task's node, and is in no row, no log and no description.
type Handout struct {
	Containers map[string]ContainerHandout // by container name
}

// ContainerHandout is a container's part of it.
type ContainerHandout struct {
	Secrets    []Variable // in the order of the definition's
	Files      []Variable // of the environment files, in their order; the first of a name counts
	LogOptions map[string]string
	Registry   *RegistryLogin
}

// Variable is one variable of an environment.
type Variable struct{ Name, Value string }

// RegistryLogin opens a private registry.
type RegistryLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// String shows nothing of it.
func (Handout) String() string { return "(secret)" }

// GoString shows nothing of it.
func (Handout) GoString() string { return "(secret)" }

// String shows nothing of it.
func (Variable) String() string { return "(secret)" }

// GoString shows nothing of it.
func (Variable) GoString() string { return "(secret)" }

// String shows nothing of it.
func (RegistryLogin) String() string { return "(secret)" }

// GoString shows nothing of it.
func (RegistryLogin) GoString() string { return "(secret)" }

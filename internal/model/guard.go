package model

import "net/netip"

// Group is a security group as machines enforce it.
type Group struct {
	ID  string
	VPC string
	// Rules are without ids, descriptions and tags.
	Rules []SecurityGroupRule
	// Members are the addresses of its tasks on all machines.
	Members []netip.Addr
	// Machines: the machines are members too, as those that run a load balancer of the group.
	Machines bool
}

// Guard is what a machine is to enforce: the groups of its tasks, and those that their rules name.
type Guard struct {
	Tasks  map[string]TaskGuard // its tasks in awsvpc mode, by task id
	Groups map[string]Group     // by id
	// VPCs are the ranges of all VPCs, by id: tasks of one do not reach those of another.
	VPCs map[string][]netip.Prefix
}

// TaskGuard is what a task is to its machine's network.
type TaskGuard struct {
	Groups []string
	// Subnet is where it gets its address; "": the default VPC.
	Subnet string `json:",omitempty"`
}

// GroupsChange changes which security groups the node enforces. What comes with More is to be done with what follows it. A Full one replaces
// everything.
type GroupsChange struct {
	Full bool
	More bool
	// Tasks are all of the node's; nil: as before.
	Tasks map[string]TaskGuard
	// VPCs are the ranges of all VPCs; nil: as before.
	VPCs   map[string][]netip.Prefix
	Put    []GroupChange
	Remove []string
}

// GroupChange is a group that is new, or what changed of one.
type GroupChange struct {
	ID string
	// Changed: VPC, Rules and Machines are as here; else they are as before.
	Changed     bool
	VPC         string              `json:",omitempty"`
	Rules       []SecurityGroupRule `json:",omitempty"`
	Machines    bool                `json:",omitempty"`
	Add, Remove []netip.Addr        `json:",omitempty"` // members
}

package timeouts

import "time"

// Life and death of nodes (machines.md, section 5).
const (
	// Beat is the time between two beats of a node, BeatMany that of each in a fleet of more than 3,000; BeatLeast is the shortest that a
	// node believes.
	Beat      = 300 * time.Millisecond
	BeatMany  = 500 * time.Millisecond
	BeatLeast = 50 * time.Millisecond
	// BeatStood is how late a machine's timer, or its clock, may be before that counts as a pause of the machine.
	BeatStood = 100 * time.Millisecond
	// BeatAnswer is when an answer, to a beat or to a probe, is too old to count.
	BeatAnswer = 2 * time.Second
	// BeatPasses is how long without an answer UDP still counts as getting through; then a node beats in its session.
	BeatPasses = 700 * time.Millisecond
	// BeatBye is the pause between the beats that say that a machine shuts down.
	BeatBye = 20 * time.Millisecond
	// BeatClone is how long a boot must be silent before another boot of the node is believed: no machine boots so fast.
	BeatClone = time.Second
	// LifeLeast and LifeMost bound the pause between two looks at who lives; LifeLate is how late the timer between them may be before
	// verdicts wait; LifeRetry is the pause after a verdict that was not stored.
	LifeLeast = 10 * time.Millisecond
	LifeMost  = time.Second
	LifeLate  = 200 * time.Millisecond
	LifeRetry = 100 * time.Millisecond
	// KeeperPort is the pause between two tries of a keeper to take the port of beats from an agent that has died; KeeperTell the one between
	// two words of the agent to the keeper; KeeperAnswer what an agent waits for the keeper to leave it the port.
	KeeperPort   = 20 * time.Millisecond
	KeeperTell   = time.Second
	KeeperAnswer = 2 * time.Second
	// FenceLook is the longest pause between two looks at a lease.
	FenceLook = 200 * time.Millisecond
	// VitalsLook is the pause between two looks at what a machine needs to be given tasks. A disk that does not finish a write of a few bytes
	// within VitalsWrite hangs; a containerd that has not answered for VitalsRuntime does, though it was started again meanwhile.
	VitalsLook    = 2 * time.Second
	VitalsWrite   = 10 * time.Second
	VitalsRuntime = 30 * time.Second
	// ByeAsk bounds the question whether the machine shuts down.
	ByeAsk = 500 * time.Millisecond
	// DrainLook is the pause between two looks at how far a drained node is.
	DrainLook = time.Second
	// FenceMargin is what the leader waits, besides the lease and the stopTimeouts, until a lost node has surely stopped a task of which
	// there must not be two: a leader that is cut off goes on answering beats until it notices.
	FenceMargin = 2 * time.Second
	// NodeForgotten is how long a lost node is remembered.
	NodeForgotten = 72 * time.Hour
)

// lifeOrder is the part of Order that is about nodes' lives.
func lifeOrder() []Rule {
	return []Rule{
		{Beat, BeatMany, "Beat < BeatMany", "many nodes beat more slowly"},
		{3 * Beat, BeatClone, "3*Beat < BeatClone", "a live machine has beaten before another of its id is believed"},
		{KeeperTell + FenceLook, FenceMargin, "KeeperTell + FenceLook < FenceMargin", "a keeper's word is old when a lease counts, and still in time"},
		{KeeperPort, Beat, "KeeperPort < Beat", "a keeper beats before anybody misses the agent"},
		{BeatLeast, Beat, "BeatLeast < Beat", "a node believes the period that it is told"},
		{BeatMany + BeatMany/10, BeatPasses, "1.1 * BeatMany < BeatPasses", "one lost answer is no broken path"},
	}
}

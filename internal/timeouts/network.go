package timeouts

import "time"

// The network across machines.
const (
	// AddressRest is how long an address is not given again after its task, as long as there are others.
	AddressRest = time.Minute
	// AddressWait is how long a task waits for its node's next block of addresses when all that the node has are taken.
	AddressWait = 10 * time.Second
	// GroupsWait is how long a task that starts waits until its security groups are known.
	GroupsWait = 5 * time.Second
	// GroupsTell is the least pause between two words of a server to a node about security groups.
	GroupsTell = 50 * time.Millisecond
	// BlocksSaid is the pause between two reports of a node's blocks when nothing happens; BlocksAsk the least pause between two;
	// BlocksWarn that between two warnings that a node cannot get more.
	BlocksSaid = time.Minute
	BlocksAsk  = 100 * time.Millisecond
	BlocksWarn = 10 * time.Minute
	// BlockReturn is after which an empty block is recalled, BlockOrphan after which the blocks of a node that is gone are another's.
	BlockReturn = time.Hour
	BlockOrphan = time.Hour
	// OverlayTest is how long another machine has to send back what it is sent.
	OverlayTest = time.Second
	// OverlayAlive is the pause between two words of a machine to another whose tasks are silent, where that is encrypted.
	OverlayAlive = 25 * time.Second
	// OverlayKept is the pause between two comparisons of the whole overlay with what is wanted, OverlayLook between two looks whether
	// its device is there, OverlayRetry the pause after a failure.
	OverlayKept  = 30 * time.Second
	OverlayLook  = 2 * time.Second
	OverlayRetry = time.Second
)

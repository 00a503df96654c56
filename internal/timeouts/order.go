package timeouts

import "time"

// Rule says that one wait must be shorter than another (or as long at most), and why.
type Rule struct {
	Shorter, Longer time.Duration
	Names           string // as in the table: "a < b"
	Why             string
}

// Order is the required order of the table.
func Order() []Rule {
	return append(lifeOrder(), []Rule{
		{ShimProbe, ContainerdStart, "ShimProbe < ContainerdStart", "a shim that hangs must not keep containerd from starting"},
		{ContainerdStart, ShimLoad, "ContainerdStart < ShimLoad",
			"containerd kills the containers of a shim that it gives up; before that it is killed, and its next start sets the shim aside"},
		{ContainerdProbe, ContainerdStart, "ContainerdProbe < ContainerdStart", "one question of several"},
		{ShimCleanup, ShimLost, "ShimCleanup < ShimLost", "the clean-up after a shim tells how its containers ended, before that is called unknown"},
		{ShimState, SignalCall, "ShimState < SignalCall", "containerd's own refusal comes before its caller gives up"},
		{ShimState, ContainerdAnswer, "ShimState < ContainerdAnswer", "a shim that hangs must not make containerd look hung"},
		{CreateWait, RuncStep, "CreateWait <= RuncStep", "the shim finishes what it has begun after its caller has gone"},
		{SignalCall, RuncStep, "SignalCall < RuncStep", "the same"},
		{DeleteCall, RuncStep, "DeleteCall < RuncStep", "the same"},
		{SignalCall + KillWait, DeleteCall, "SignalCall + KillWait < DeleteCall", "a deletion kills first, and needs time for the rest"},
		{SignalCall + KillWait, KillAgain, "SignalCall + KillWait < KillAgain", "SIGKILL is sent again only when the first has been given up"},
		{2*OutletEnd + KillWait, DeleteCall, "2*OutletEnd + KillWait < DeleteCall", "the end of a log's output is waited for within a deletion"},
		{DeleteCall, ReleaseWait, "DeleteCall < ReleaseWait", "a deletion that fails once is tried again before STOPPED is reported without it"},
		{ContainerdMisses * (ContainerdHealth + ContainerdAnswer), ReleaseWait, "ContainerdMisses * (ContainerdHealth + ContainerdAnswer) < ReleaseWait",
			"a containerd that hangs is replaced before a task's release is called overdue"},
		{ContainerdFirstPause + time.Second, ContainerdBack, "ContainerdFirstPause + 1s < ContainerdBack", "a call outlasts a restart of containerd"},
		{SignalCall + KillWait + ReleaseWait + LogDrain, DownMargin, "SignalCall + KillWait + ReleaseWait + LogDrain < DownMargin",
			"down waits for a task that is stuck to say so"},
		{KillAgain, DownMargin, "KillAgain < DownMargin", "the same"},
		{RequestDrain, ServerStop, "RequestDrain < ServerStop", "down kills a server only when it does not end by itself"},
		{StopDefault, StopLongest, "StopDefault < StopLongest", "the default is within the bound"},
		{2 * Heartbeat, SessionLost, "2 * Heartbeat < SessionLost", "one lost heartbeat is no lost session"},
		{SessionLost, LostGrace, "SessionLost < LostGrace", "a session comes back before its tasks are given up"},
		{PeerDial, PeerHandshake, "PeerDial < PeerHandshake", "who dials gives up first, and tries another server"},
		{2*PeerDial + 2*DialBack, JoinCall, "2*PeerDial + 2*DialBack < JoinCall", "who joins waits for the server's dial-back"},
		{2 * RelayProbe, APIHold, "2 * RelayProbe < APIHold", "a relay leaves a server that is gone before its own clients give up"},
		{PeerClose, RequestDrain, "PeerClose < RequestDrain", "a goodbye is within a server's end"},
		{PeerDial, SessionOpen, "PeerDial < SessionOpen", "a server that asks the leader about a node can tell the node that it did not answer"},
		{SessionRefused, SessionLost, "SessionRefused < SessionLost", "a node that is let in again is not late"},
		{SessionRetry, SessionLonger, "SessionRetry < SessionLonger", "pauses grow"},
		{SessionLonger, LostGrace, "SessionLonger < LostGrace", "a node tries again before its tasks are given up"},
		{TidyAfter, CollectCall, "TidyAfter < CollectCall", "collections do not overlap"},
		{CollectCall, CollectLease, "CollectCall < CollectLease", "a lease outlives the call that it is for"},
		{CreateWait, PullLease, "CreateWait < PullLease", "an image is kept until its container exists"},
		{ImageUsed + PullLease, ImageKeep, "ImageUsed + PullLease < ImageKeep", "an image whose use was not noted anew when it was pulled has its lease"},
		{PullAsk, PullAnswer, "PullAsk < PullAnswer", "less patience where the machine has the image anyway"},
		{LogDrain, ReleaseWait, "LogDrain < ReleaseWait", "a log does not hold up STOPPED longer than the release does"},
		{PeerDial, BlobAsk, "PeerDial < BlobAsk", "a server that cannot be reached is told as such"},
		{BlobAsk, UpstreamAnswer, "BlobAsk < UpstreamAnswer", "a server that has not got a blob asks another before it is taken for dead itself"},
		{LogIntake, UpstreamAnswer, "LogIntake < UpstreamAnswer", "a server says that it is busy before it is taken for dead"},
		{PeerDial, UpstreamAnswer, "PeerDial < UpstreamAnswer", "a server that cannot be reached is told as such"},
		{2 * UpstreamAnswer, LogSend, "2 * UpstreamAnswer < LogSend", "one server that hangs leaves time for the next"},
		{LogRetry, LogDrainLater, "LogRetry < LogDrainLater", "the last lines are tried more than once"},
		{Relist, ReleaseWait, "Relist < ReleaseWait", "a missed exit is found before it matters"},
		{ProxyGreet, ProxyHand, "ProxyGreet < ProxyHand", "a node that meets a proxy that hangs hands over to the next one all the same"},
		{ProxyGreet + ProxyHand, ProxyStart, "ProxyGreet + ProxyHand < ProxyStart", "a proxy that takes over from one that hangs starts in time"},
		{2 * ProxyBeat, ProxySilence, "2 * ProxyBeat < ProxySilence", "one lost answer is no hung proxy"},
		{LinkSend, ProxySilence, "LinkSend < ProxySilence", "a report that is stuck is no hung proxy"},
		{PortBack, ProxyStart, "PortBack < ProxyStart", "the port is there before the proxy that takes it"},
		{ProxyClose, ProxyShut, "ProxyClose < ProxyShut", "the load balancers' requests end within what the process gives"},
		{ProxySweep, ProxyKept, "ProxySweep < ProxyKept", "a connection that was kept too long is found soon"},
		{ProxyLastWrite, ProxyClose, "ProxyLastWrite < ProxyClose", "an answer that is there gets through when the proxy is closed"},
		{ProxyLinger, ProxyClose, "ProxyLinger < ProxyClose", "the same"},
		{ProxyWatch, ProxyLinger, "ProxyWatch < ProxyLinger", "a client that leaves is seen before its connection is given up"},
		{ProxyDial, ProxyHead, "ProxyDial < ProxyHead", "a target that takes no connections is told as such"},
		{PortRetry, ProxyStart, "PortRetry < ProxyStart", "a port that is free late is tried again within the start"},
		{PortDrain, ProxyDrain, "PortDrain < ProxyDrain", "one port's requests are within the whole proxy's"},
		{GatePause, PaceGrace, "GatePause < PaceGrace", "who waits to be accepted is not called slow"},
		{ProxyIdle, ProxyDrain, "ProxyIdle < ProxyDrain", "silent connections go before busy ones"},
		{ProxyShut, ProxyStop, "ProxyShut < ProxyStop", "down kills a proxy only when it does not end by itself"},
		{AddressRest, BlockReturn, "AddressRest < BlockReturn", "no address of a block rests any more when it is recalled"},
		{BlocksAsk, AddressWait, "BlocksAsk < AddressWait", "a task that waits for an address outlasts the question for more"},
		{BlocksSaid, BlockReturn, "BlocksSaid < BlockReturn", "an empty block is known to be"},
		{OverlayLook, OverlayKept, "OverlayLook < OverlayKept", "the short look comes more often than the long one"},
		{ForwardHold, APIHold, "ForwardHold < APIHold", "a server answers that there is no leader before the proxy gives it up"},
		{ForwardHold, ServerCall, "ForwardHold < ServerCall", "the same, of one server to another"},
		{RequestDrain, APIHold, "RequestDrain < APIHold", "a request waits for the next server while the last one still ends"},
	}...)
}

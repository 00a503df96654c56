// Package timeouts is the one table of how long Berth's processes wait: for each other, for the kernel, for people. A wait that is
// longer than that of its caller is never used up, and one that is shorter takes away what the other still does: Order says which
// must be shorter than which, and why, and its test holds them to it. No other file of the server, the node and the shim declares
// such a constant (test/arch sees to that); what a user sets (a health check's interval, a stopTimeout) is not here.
package timeouts

import "time"

// The shim: one process a task, which containerd asks and which runs runc.
const (
	// ShimProbe is how long a shim may take to answer when containerd starts. One that does not is set aside: containerd starts
	// without it, and takes it back when it answers.
	ShimProbe = time.Second
	// ShimWatch is the pause between two looks at the shims that were set aside.
	ShimWatch = time.Second
	// ShimState bounds containerd's question for a container's state.
	ShimState = 2 * time.Second
	// ShimLoad is when a starting containerd gives up a shim, and kills its containers. It must never be reached: before that,
	// whoever starts containerd kills it and tries again, and the next start sets the shim aside.
	ShimLoad = time.Minute
	// ShimCleanup bounds the clean-up after a shim that has died.
	ShimCleanup = 15 * time.Second
	// ShimLost is how long a container that nobody knows any more counts as running: containerd may be cleaning up after its shim.
	ShimLost = 20 * time.Second
	// RuncStep bounds one step of runc (create, start, kill, delete) in the shim, and in containerd. No caller waits longer.
	RuncStep = 2 * time.Minute
	// OutletEnd is how long a container that is being deleted may still wait for room in its log; OutletSay the pause between two
	// notes of what its log lost.
	OutletEnd = time.Second
	OutletSay = time.Second
	// Stray is the pause between two looks for shims that no container belongs to; StrayAnswer is what such a shim has to end.
	Stray       = 3 * time.Second
	StrayAnswer = 2 * time.Second
)

// containerd, as `berth up` starts and watches it.
const (
	// ContainerdProbe bounds one question whether containerd serves, while it starts; ContainerdStart bounds its start.
	ContainerdProbe = 2 * time.Second
	ContainerdStart = 20 * time.Second
	// ContainerdDrain is how long a containerd that is about to begin anew waits for the steps that it has begun.
	ContainerdDrain = 5 * time.Second
	// ContainerdStop is how long it has after a SIGTERM, and how long the kernel has after a SIGKILL.
	ContainerdStop = 10 * time.Second
	// ContainerdHealth is the pause between two questions whether it serves, ContainerdAnswer how long it has for the answer. After
	// ContainerdMisses in a row it is killed and started again, which no container notices.
	ContainerdHealth = 2 * time.Second
	ContainerdAnswer = 3 * time.Second
	ContainerdMisses = 3
	// ContainerdFirstPause and ContainerdLastPause bound the growing pauses before it is started again. One that ran for
	// ContainerdSteady does not crash at its start.
	ContainerdFirstPause = 50 * time.Millisecond
	ContainerdLastPause  = 5 * time.Second
	ContainerdSteady     = 250 * time.Millisecond
	// ContainerdBack is how long a call waits for a containerd that is being restarted.
	ContainerdBack = 3 * time.Second
	// ContainerdConnect bounds gRPC's connecting to it; Resubscribe is what is waited for events before the pause begins anew.
	ContainerdConnect = 5 * time.Second
	Resubscribe       = 10 * time.Second
	// CatchUpLast is when, after subscribing, a subscription has surely begun and the list is searched a last time.
	CatchUpLast = 5 * time.Second
)

// The runtime's calls, which the agent makes.
const (
	// CreateWait is for the shim's start and runc's create on a machine that is very busy.
	CreateWait = 2 * time.Minute
	// SignalCall is how long containerd, the shim and runc together may take to send a signal. After it the kernel is asked directly.
	SignalCall = 5 * time.Second
	// KillWait is how long the kernel may take to end processes that were sent SIGKILL. What is left then waits in the kernel, and
	// the container is said to be stuck.
	KillWait = 5 * time.Second
	// DeleteCall bounds one attempt to delete a container's task by containerd. After it, its shim is ended.
	DeleteCall = 15 * time.Second
	// ExecEnd is how long a command that ran too long has to end; ExecDrain what its output has after its end.
	ExecEnd   = 10 * time.Second
	ExecDrain = time.Second
	// CgroupBusy is how long a cgroup may stay busy after its last process was killed.
	CgroupBusy = time.Second
	// CollectCall bounds a collection of containerd's garbage; TidyAfter is how long nothing was deleted before it; CollectLease is
	// when the lease of a collection that was interrupted ends by itself.
	TidyAfter    = 3 * time.Second
	CollectCall  = time.Minute
	CollectLease = time.Hour
	// PullLease is how long an image that was just pulled stays, though no container uses it yet.
	PullLease = 45 * time.Minute
)

// The agent.
const (
	// StopDefault is the stopTimeout of a container that sets none (ecs.md), StopLongest the longest that Berth waits for.
	StopDefault = 30 * time.Second
	StopLongest = 10 * time.Minute
	// KillAgain is how long after a SIGKILL without effect it is sent again.
	KillAgain = 20 * time.Second
	// ReleaseWait is how long STOPPED waits for the release of what the task held; ReleaseRetry the longest pause between attempts.
	ReleaseWait  = 30 * time.Second
	ReleaseRetry = 5 * time.Second
	StuckRetry   = 30 * time.Second
	// LogDrain is how long STOPPED waits for the last lines of a log, LogDrainLater how long they are tried after it.
	LogDrain      = 2 * time.Second
	LogDrainLater = 10 * time.Minute
	// LogPartial is how long a line without an end is held; LogRetry the longest pause while a log's destination fails; LogPoll the
	// pause between looks at a file of which no event came; LogWarn the pause between two warnings about one log.
	LogPartial = 2 * time.Second
	LogRetry   = 5 * time.Second
	LogPoll    = 5 * time.Second
	LogWarn    = time.Minute
	// AttemptLast is the last pause between attempts of what fails for reasons that may pass.
	AttemptLast = 4 * time.Second
	// Relist is the pause between two comparisons of tasks with the runtime; SweepFolders between two looks for folders of no task.
	Relist       = 3 * time.Second
	SweepFolders = time.Minute
	// Resolve is how long a resolver of the machine's has for an answer to a container's question.
	Resolve = 2 * time.Second
	// ResolveIdle is how long a connection with DNS questions may be silent.
	ResolveIdle = 10 * time.Second
	// RulesKept is the pause between two looks at the network's rules, which other firewalls take away, or add chains that drop.
	RulesKept    = 2 * time.Second
	SweepCgroups = 15 * time.Second
	// KeepLogs is how long json-file logs outlive their task.
	KeepLogs = time.Hour
	// RestartPeriod is the restartAttemptPeriod of a policy that sets none.
	RestartPeriod = 300 * time.Second
	// HealthInterval and HealthTimeout are a health check's where it sets none; HealthFirst is the pause before its first success
	// at pace fast.
	HealthInterval = 30 * time.Second
	HealthTimeout  = 5 * time.Second
	HealthFirst    = time.Second
)

// Pulling images.
const (
	PullFirstPause = 500 * time.Millisecond
	// PullAsk bounds the first question to a registry when the machine has the image anyway.
	PullAsk       = 10 * time.Second
	PullDial      = 15 * time.Second
	PullKeepAlive = 30 * time.Second
	PullHandshake = 15 * time.Second
	PullAnswer    = time.Minute
	PullIdle      = 30 * time.Second
	// ImageUsed is the pause between two notes of an image's use; ImageKeep how long an unused image is kept; ImageCollect the pause
	// between two looks at the disk.
	ImageUsed    = 10 * time.Minute
	ImageKeep    = time.Hour
	ImageCollect = 10 * time.Minute
)

// Servers among each other.
const (
	// ForwardHold is how long a request waits for a leader: an election takes up to 2 s, and may need a second attempt. ForwardRetry is the
	// longest pause before a leader that did not take a request is asked again.
	ForwardHold  = 5 * time.Second
	ForwardRetry = 100 * time.Millisecond
	// LockLeft is how long the lock of a data directory may outlive the process that had it, in one that this was about to start; LockLook is
	// the pause between two looks.
	LockLeft = 5 * time.Second
	LockLook = 20 * time.Millisecond

	// ServerEnter is how long a server that joins tries to become a member: etcd takes one change of its members every 5 s. ServerRetry is the
	// pause between two attempts, and between two looks whether a new member may vote.
	ServerEnter = time.Minute
	ServerRetry = 250 * time.Millisecond
	// ServerCall bounds one question of a server to another; ServerSay the pause between two lines about what is waited for.
	ServerCall = 15 * time.Second
	// ServerState is how long a server has to say how it is, before people are told that it is away.
	ServerState = time.Second
	ServerSay   = 10 * time.Second
	// ServerTurn is what a server has to start etcd anew before the next one does.
	ServerTurn = 2 * time.Second
	// ServerGone is how long a server does not answer until its sessions are taken for ended, ServerLook the pause between two questions.
	ServerGone = 20 * time.Second
	ServerLook = 4 * time.Second
	// ServerContact is the pause between two questions of a server whether it is in contact with the leader: tasks' leases are older by up to that.
	ServerContact = 300 * time.Millisecond
)

// The session of server and node.
const (
	Heartbeat     = 5 * time.Second
	SessionLost   = 15 * time.Second
	SessionRetry  = 100 * time.Millisecond
	SessionLonger = 10 * time.Second
	// SessionOpen bounds hello and welcome. SessionRefused is when a node that was refused tries again at the earliest.
	SessionOpen    = 10 * time.Second
	SessionRefused = 5 * time.Second
	// LedgerRetry is how often a follower asks for a leader that writes its sessions down, LedgerAnswer how long that one may take.
	LedgerRetry  = 100 * time.Millisecond
	LedgerAnswer = 5 * time.Second
	// SessionAvoid is how long a server that was tried in vain is tried after the others.
	SessionAvoid = time.Minute
	// SessionBack is how long, at least, a session stays with another server than the node's first one when that is there again.
	SessionBack = 2 * time.Minute
	// SessionMove is the time that a server has for each node that a change of servers makes connect to another one.
	SessionMove = 3 * time.Millisecond
	// LostGrace is how long after a node's loss its tasks of no service are given up.
	LostGrace = time.Minute
)

// The control loop.
const (
	// ControlRepair is within what everything is looked at, whether it changed or not, a part each ControlStep.
	ControlRepair = time.Minute
	ControlStep   = time.Second
	// ControlRetry is the pause before an owner is looked at again whose change failed; it grows up to ControlRetryLast. One that is
	// not at rest after ControlRestless waits as long.
	ControlRetry     = time.Second
	ControlRetryLast = 30 * time.Second
	ControlRestless  = time.Second
	// ControlRefit is the pause between two looks at tasks that fitted nowhere, a second more for each thousand of their owners.
	ControlRefit = time.Second
	// KeepEnded is how long ended tasks can be described, ControlCollect the pause between two looks for older ones.
	KeepEnded      = 72 * time.Hour
	ControlCollect = time.Minute
)

// The cluster port.
const (
	// PeerDial bounds a connection to a server, with its handshake; PeerHandshake is what a server waits for one.
	PeerDial      = 5 * time.Second
	PeerHandshake = 10 * time.Second
	// PeerKeepAlive is how long a connection is silent before the other side is asked whether it lives, and how long it has to answer:
	// a short cut of the network must not end sessions (machines.md §5).
	PeerKeepAlive = 10 * time.Second
	// UpstreamAnswer is how long a server has to begin its answer to a node before the next one is asked. LogSend bounds the handing on of a
	// batch of log lines, over all servers; LogIntake is how long a batch waits at a server for memory.
	UpstreamAnswer = 10 * time.Second
	LogSend        = 30 * time.Second
	LogIntake      = 5 * time.Second
	// BlobAsk bounds a server's question whether another has a blob. BlobStall is how long nothing of one may move between them before the
	// attempt is given up; BlobSweep bounds another server's removal of blobs that nobody needs.
	BlobAsk   = 6 * time.Second
	BlobStall = 20 * time.Second
	BlobSweep = 5 * time.Minute
	// BlobAway is how long a server that did not answer is asked after all others.
	BlobAway = 10 * time.Second
	// BlobScrub is the pause between two readings of all blobs of a server, to find what has become corrupt.
	BlobScrub = 7 * 24 * time.Hour
	// ReplicateLook is the pause between two looks at what is to be sent to other registries; UpstreamHeader is what another registry
	// has to answer.
	ReplicateLook  = 2 * time.Second
	UpstreamHeader = 15 * time.Second
	// Scan bounds the reading of an image for its packages, ScanEnd what its worker's pipes have after its death.
	Scan    = 10 * time.Minute
	ScanEnd = time.Second
	// RecordsRetry is the pause before records that could not be written beside the blobs are written again.
	RecordsRetry = 10 * time.Second
	// LogCopy bounds one exchange of log events between two servers. LogAway is how long a server that did not answer gets none.
	LogCopy = 6 * time.Second
	LogAway = 10 * time.Second
	// LogMend is the pause between two looks for log streams that have one copy only.
	LogMend = 5 * time.Second
	// PeerClose is what the goodbye of a connection that is closed has.
	PeerClose = time.Second
)

// Joining a cluster, and staying in it.
const (
	// JoinCall bounds a whole join; DialBack is what the joining machine's ports have to answer the server.
	JoinCall = 15 * time.Second
	// RenewRetry is about how long after a certificate could not be renewed it is tried again.
	RenewRetry = time.Minute
	DialBack   = 2 * time.Second
	// TokenNode, TokenServer and TokenClient are how long tokens live that say nothing else, TokenLongest the longest; TokenKept is how
	// long one that has expired is still told from one that never was. TokenSweep is the pause between two looks for those.
	TokenNode    = 24 * time.Hour
	TokenServer  = time.Hour
	TokenClient  = 30 * 24 * time.Hour
	TokenLongest = 365 * 24 * time.Hour
	TokenKept    = 7 * 24 * time.Hour
	TokenSweep   = time.Minute
	// RelayProbe is how long a server may owe a relay an answer before it is asked whether it lives, and the pause between two such
	// questions. RelayRefuse is what a client has to take the word that no server answers.
	RelayProbe  = 2 * time.Second
	RelayRefuse = 5 * time.Second
	// TableBeat is the pause between two signs of life of a server that says what the load balancers are, and of the machine that listens;
	// after TableSilence the other one looks for another. TableSend bounds one message, TableRetry is the longest pause before the next server.
	TableBeat    = 2 * time.Second
	TableSilence = 7 * time.Second
	TableSend    = 5 * time.Second
	TableRetry   = time.Second
	// OwnNode is how long a starting server's API waits for the node of its own process.
	OwnNode = 2 * time.Second
	// KeysLevel is the pause between two looks whether a server's keys are in line with the settings; NodeRoots that between two
	// questions of a node whom to believe.
	KeysLevel = 10 * time.Second
	NodeRoots = 10 * time.Minute
	// MembersRefresh is the pause between a laptop's questions where the servers are.
	MembersRefresh = 5 * time.Minute
	// RecheckSoon is when everybody who is connected is looked up again after rows of machines have changed.
	RecheckSoon = time.Second
)

// The server.
const (
	// RequestHeader bounds the reading of a request's header, RequestIdle a connection without a request, and RequestDrain what
	// requests in flight have when the server stops.
	RequestHeader = 10 * time.Second
	RequestIdle   = 2 * time.Minute
	RequestDrain  = 5 * time.Second
	Housekeeping  = time.Hour
	// Provisioning is how long a task waits for a machine of its capacity provider.
	Provisioning = 30 * time.Minute
	// BackupLook is the pause between two looks whether a backup is due, BackupLeast the shortest pause between two that people may ask for.
	BackupLook  = 10 * time.Second
	BackupLeast = time.Minute
	// ServerStop is what `berth down` gives the server after a SIGTERM.
	ServerStop = 15 * time.Second
	// TaskCredentials is how long those of a task's role are good for; RegistryToken the node's own login.
	TaskCredentials = 6 * time.Hour
	RegistryToken   = time.Hour
	// DownMargin is what `berth down` waits beyond a task's own stopTimeouts before it goes on without it.
	DownMargin = 90 * time.Second
	// DownSay is the pause between two lines that say what it waits for.
	DownSay = 5 * time.Second
)

// The proxy: the process of the load balancers, which takes the API's port too, as `berth up` starts and watches it.
const (
	// ProxyGreet is how long either side of the link may take to say who it is. A proxy that does not is killed.
	ProxyGreet = 3 * time.Second
	// ProxyHand is how long a new proxy waits for the sockets that it is started with; ProxyStart bounds its start.
	ProxyHand  = 4 * time.Second
	ProxyStart = 15 * time.Second
	// ProxyBeat is the pause between two questions whether it lives. One that says nothing for ProxySilence is killed and started again.
	// Who comes meanwhile waits that long.
	ProxyBeat    = time.Second
	ProxySilence = 7 * time.Second
	// LinkSend is how long one side of the link may take nothing before the other gives the connection up.
	LinkSend = 5 * time.Second
	// ProxyLongestPause bounds the growing pauses before a proxy that ends at its start is started again; one that ran for ProxySteady
	// did not. ProxyExit is what a process whose connection has ended has to end itself.
	ProxyLongestPause = 5 * time.Second
	ProxySteady       = time.Second
	ProxyExit         = time.Second
	// PortBack is how long a port may take to be free, or its new holder to be found, after the process that had it was killed.
	PortBack = 5 * time.Second
	// ProxyIdle is how long silent connections to a proxy that was upgraded stay open: each is asked to end with its next answer.
	// ProxyDrain is what its requests in flight have, WebSockets among them.
	ProxyIdle  = 30 * time.Second
	ProxyDrain = 5 * time.Minute
	// ProxyShut is what requests in flight have when the proxy is told to end, ProxyStop what the process has.
	ProxyShut = 5 * time.Second
	ProxyStop = 10 * time.Second
	// APIHold is how long a request to the API waits for a server that is away; APILine what a forwarded connection has to say whose it
	// is; APIContinue how long a body that waits to be asked for is held back.
	APIHold     = 10 * time.Second
	APILine     = 5 * time.Second
	APIContinue = time.Minute
)

// What a load balancer waits for at its clients and its targets.
const (
	// ProxyHead is how long a client may take to send a head that it has begun.
	ProxyHead = 60 * time.Second
	// ProxyWatch is about how long a request is under way before somebody looks whether its client leaves.
	ProxyWatch = 50 * time.Millisecond
	// ProxyLinger is how long is read, after the last answer, what a client still sends.
	ProxyLinger = 500 * time.Millisecond
	// ProxyDial is how long an ALB waits for a connection to a target; ProxyKeepAlive the kernel's pause between two probes of one.
	ProxyDial      = 10 * time.Second
	ProxyKeepAlive = 30 * time.Second
	// ProxyLastWrite is what a target that has answered has to take the end of the request.
	ProxyLastWrite = time.Second
	// ProxyKept is how long a connection to a target is kept that nobody uses, ProxySweep the pause between two looks at those.
	ProxyKept  = 50 * time.Second
	ProxySweep = time.Second
	// ProxyLeastIdle is the shortest idle timeout that a client's connection has.
	ProxyLeastIdle = time.Second
	// ProxyProbe is how often a target that was never healthy is asked at pace fast.
	ProxyProbe = time.Second
	// ProxyClose is what requests in flight have when a proxy is closed at once, PortDrain those of a port that no listener has any more.
	ProxyClose = 3 * time.Second
	PortDrain  = time.Minute
	// PortRetry is how often a port that could not be taken is tried again, FeedRetry a write to the store that failed.
	PortRetry = time.Second
	FeedRetry = time.Second
)

// What strangers may take of any listener.
const (
	// PaceGrace is how long the other side of a body may keep Berth waiting, besides what its bytes take at the slowest rate.
	PaceGrace = 20 * time.Second
	// GateWarn is the pause between two lines about refused connections, GatePause the longest while none can be accepted.
	GateWarn  = time.Minute
	GatePause = time.Second
)

// Metrics.
const (
	// MeasureOften is the pause between two measurements of a node's tasks at --pace fast as long as they are few (MeasureFew), Measure else.
	MeasureOften = time.Second
	Measure      = 5 * time.Second
	MeasureFew   = 32
	// CountOften and Count are the pauses between two looks at the proxy's counters, likewise.
	CountOften = time.Second
	Count      = 5 * time.Second
	// MetricsWrite is the pause between two writes of what was measured.
	MetricsWrite = 5 * time.Second
	// MetricsMinute is how often the leader tells how many tasks there are.
	MetricsMinute = time.Minute
)

// Deliveries to others: webhooks, subscriptions, targets of events.
const (
	// DeliverCall bounds one attempt, DeliverLongest the pause between two, DeliverUntil the time in which it is tried; DeliverLook is the
	// pause between two looks at what waits.
	DeliverCall    = 15 * time.Second
	DeliverLongest = 20 * time.Second
	DeliverUntil   = time.Hour
	DeliverLook    = 10 * time.Second
	// AlarmLook is the pause between two judgements of an alarm, AlarmOften that of one of short periods.
	AlarmLook  = 5 * time.Second
	AlarmOften = time.Second
	// ScaleOften is the pause between two looks at what scales at the fast pace, Scale that at AWS's.
	ScaleOften = time.Second
	Scale      = 10 * time.Second
)

// Schedules.
const (
	// ScheduleLook is the longest pause between two looks at what is due; ScheduleLate is how old a tick may be that is caught up with after a
	// pause of the server; EventOldest bounds for how long a target is tried.
	ScheduleLook = 10 * time.Second
	ScheduleLate = time.Hour
	EventOldest  = 24 * time.Hour
)

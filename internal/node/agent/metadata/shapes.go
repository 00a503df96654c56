package metadata

import "time"

// taskShape is a task as /task answers it.
type taskShape struct {
	Cluster               string            `json:"Cluster"`
	TaskARN               string            `json:"TaskARN"`
	Family                string            `json:"Family"`
	Revision              string            `json:"Revision"`
	DesiredStatus         string            `json:"DesiredStatus,omitempty"`
	KnownStatus           string            `json:"KnownStatus"`
	Limits                *limitsShape      `json:"Limits,omitempty"`
	PullStartedAt         *time.Time        `json:"PullStartedAt,omitempty"`
	PullStoppedAt         *time.Time        `json:"PullStoppedAt,omitempty"`
	ExecutionStoppedAt    *time.Time        `json:"ExecutionStoppedAt,omitempty"`
	AvailabilityZone      string            `json:"AvailabilityZone,omitempty"`
	LaunchType            string            `json:"LaunchType,omitempty"`
	TaskTags              map[string]string `json:"TaskTags,omitempty"`
	Containers            []containerShape  `json:"Containers,omitempty"`
	ServiceName           string            `json:"ServiceName,omitempty"`
	FaultInjectionEnabled bool              `json:"FaultInjectionEnabled"`
}

// containerShape is a container as /v4/<id> answers it.
type containerShape struct {
	DockerID      string            `json:"DockerId"`
	Name          string            `json:"Name"`
	DockerName    string            `json:"DockerName"`
	Image         string            `json:"Image"`
	ImageID       string            `json:"ImageID"`
	Ports         []portShape       `json:"Ports,omitempty"`
	Labels        map[string]string `json:"Labels,omitempty"`
	DesiredStatus string            `json:"DesiredStatus"`
	KnownStatus   string            `json:"KnownStatus"`
	ExitCode      *int32            `json:"ExitCode,omitempty"`
	Limits        limitsShape       `json:"Limits"`
	CreatedAt     *time.Time        `json:"CreatedAt,omitempty"`
	StartedAt     *time.Time        `json:"StartedAt,omitempty"`
	FinishedAt    *time.Time        `json:"FinishedAt,omitempty"`
	Type          string            `json:"Type"`
	Health        *healthShape      `json:"Health,omitempty"`
	Volumes       []volumeShape     `json:"Volumes,omitempty"`
	LogDriver     string            `json:"LogDriver,omitempty"`
	LogOptions    map[string]string `json:"LogOptions,omitempty"`
	ContainerARN  string            `json:"ContainerARN,omitempty"`
	Networks      []networkShape    `json:"Networks,omitempty"`
	RestartCount  *int              `json:"RestartCount,omitempty"`
	Snapshotter   string            `json:"Snapshotter,omitempty"`
}

// limitsShape: of a task in vCPUs and MiB, of a container in CPU units and MiB.
type limitsShape struct {
	CPU    *float64 `json:"CPU,omitempty"`
	Memory *int64   `json:"Memory,omitempty"`
}

type portShape struct {
	ContainerPort int32  `json:"ContainerPort,omitempty"`
	Protocol      string `json:"Protocol,omitempty"`
	HostPort      int32  `json:"HostPort,omitempty"`
	HostIP        string `json:"HostIp,omitempty"`
}

type healthShape struct {
	Status string `json:"status"`
}

type volumeShape struct {
	DockerName  string `json:"DockerName,omitempty"`
	Source      string `json:"Source,omitempty"`
	Destination string `json:"Destination,omitempty"`
}

type networkShape struct {
	NetworkMode         string   `json:"NetworkMode"`
	IPv4Addresses       []string `json:"IPv4Addresses,omitempty"`
	AttachmentIndex     *int     `json:"AttachmentIndex,omitempty"`
	MACAddress          string   `json:"MACAddress,omitempty"`
	IPv4SubnetCIDRBlock string   `json:"IPv4SubnetCIDRBlock,omitempty"`
	PrivateDNSName      string   `json:"PrivateDNSName,omitempty"`
	SubnetGatewayIPv4   string   `json:"SubnetGatewayIpv4Address,omitempty"`
}

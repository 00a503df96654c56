package ec2

import (
	"context"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// attached are the tasks that have a network interface.
func (a *api) attached(r store.Reader) iter.Seq[*model.Task] {
	return func(yield func(*model.Task) bool) {
		for t := range store.Tasks.By(r, store.ByState, store.TaskLive) {
			if t.Observed.Interface != nil && !yield(t) {
				return
			}
		}
	}
}

func (a *api) groupsOf(r store.Reader, t *model.Task) []string { return store.GroupsOf(r, t) }

// eni is a task's network interface, for lists.
type eni struct {
	id   string
	task *model.Task
}

// Key is the interface's id.
func (e *eni) Key() string { return e.id }

func (a *api) interfaces(r store.Reader) iter.Seq[*eni] {
	return func(yield func(*eni) bool) {
		for t := range a.attached(r) {
			if !yield(&eni{t.Observed.Interface.ENIID, t}) {
				return
			}
		}
	}
}

func (a *api) describeNetworkInterfaces(_ context.Context, in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	out := &ec2.DescribeNetworkInterfacesOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.NetworkInterfaces, out.NextToken, err = list(query{kindENI, in.NetworkInterfaceIds, in.Filters, in.MaxResults, in.NextToken},
			a.interfaces(r), func(e *eni) (types.NetworkInterface, attributes) {
				v := a.showInterface(r, e)
				has := attributes{"network-interface-id": {e.id}, "subnet-id": {str(v.SubnetId)}, "vpc-id": {str(v.VpcId)}, "private-ip-address": {str(v.PrivateIpAddress)},
					"addresses.private-ip-address": {str(v.PrivateIpAddress)}, "mac-address": {str(v.MacAddress)}, "status": {string(v.Status)},
					"description": {str(v.Description)}, "owner-id": {a.scope.Account}, "availability-zone": {str(v.AvailabilityZone)}, "group-id": nil,
					"group-name": nil, "interface-type": {string(v.InterfaceType)}, "requester-managed": {"true"}, "private-dns-name": {str(v.PrivateDnsName)},
					"source-dest-check": {"true"}, "attachment.status": {"attached"}, "attachment.instance-owner-id": {a.scope.Account}}
				for _, g := range v.Groups {
					has["group-id"], has["group-name"] = append(has["group-id"], str(g.GroupId)), append(has["group-name"], str(g.GroupName))
				}
				return v, has.with(v.TagSet).none("attachment.instance-id", "attachment.attachment-id", "attachment.device-index", "association.public-ip",
					"association.allocation-id", "association.association-id", "association.ip-owner-id", "requester-id", "attachment.attach-time",
					"attachment.delete-on-termination", "ipv6-addresses.ipv6-address")
			})
		return err
	})
}

// showInterface is a task's interface. The zero one has none of it.
func (a *api) showInterface(r store.Reader, e *eni) types.NetworkInterface {
	if e.task == nil {
		return types.NetworkInterface{}
	}
	i := e.task.Observed.Interface
	v := types.NetworkInterface{NetworkInterfaceId: &e.id, SubnetId: &i.SubnetID, OwnerId: &a.scope.Account, Status: types.NetworkInterfaceStatusInUse,
		Description: new(a.scope.ARN("ecs", "attachment/"+i.AttachmentID)), MacAddress: optional(i.MAC),
		PrivateIpAddress: optional(i.IPv4), InterfaceType: types.NetworkInterfaceTypeInterface, RequesterManaged: new(true), SourceDestCheck: new(true),
		VpcId: new(store.VPCOf(r, i.SubnetID)), Groups: []types.GroupIdentifier{}, TagSet: []types.Tag{}, PrivateIpAddresses: []types.NetworkInterfacePrivateIpAddress{},
		Attachment: &types.NetworkInterfaceAttachment{AttachmentId: new("eni-attach-" + e.id[len("eni-"):]), InstanceOwnerId: &a.scope.Account,
			Status: types.AttachmentStatusAttached, DeviceIndex: new(int32(1)), DeleteOnTermination: new(true)}}
	if i.IPv4 != "" {
		v.PrivateIpAddresses = append(v.PrivateIpAddresses, types.NetworkInterfacePrivateIpAddress{Primary: new(true), PrivateIpAddress: &i.IPv4})
	}
	if s, ok := store.Subnets.Get(r, i.SubnetID); ok {
		v.AvailabilityZone = s.Subnet.AvailabilityZone
	}
	for _, id := range a.groupsOf(r, e.task) {
		g := types.GroupIdentifier{GroupId: &id}
		if row, ok := store.SecurityGroups.Get(r, id); ok {
			g.GroupName = &row.Name
		}
		v.Groups = append(v.Groups, g)
	}
	return v
}

func (a *api) describeAvailabilityZones(_ context.Context, in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	const text = "Invalid availability zone: [%s]"
	known := func(wanted []string, of func(Subnet) string) error {
		for _, id := range wanted {
			if !slices.ContainsFunc(a.Network.Subnets, func(s Subnet) bool { return of(s) == id }) {
				return invalid(text, clip(id))
			}
		}
		return nil
	}
	name, id := func(s Subnet) string { return s.Zone }, func(s Subnet) string { return s.ZoneID }
	if err := known(in.ZoneNames, name); err != nil {
		return nil, err
	}
	if err := known(in.ZoneIds, id); err != nil {
		return nil, err
	}
	out := &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: []types.AvailabilityZone{}}
	for _, s := range a.Network.Subnets {
		group := a.scope.Region + "-zg-1"
		ok, err := matches(in.Filters, attributes{"zone-name": {s.Zone}, "zone-id": {s.ZoneID}, "state": {"available"}, "group-name": {group},
			"region-name": {a.scope.Region}, "opt-in-status": {"opt-in-not-required"}, "zone-type": {"availability-zone"}}.none(
			"message", "parent-zone-id", "parent-zone-name", "group-long-name"))
		if err != nil {
			return nil, err
		}
		if ok && (len(in.ZoneNames) == 0 || slices.Contains(in.ZoneNames, s.Zone)) && (len(in.ZoneIds) == 0 || slices.Contains(in.ZoneIds, s.ZoneID)) {
			out.AvailabilityZones = append(out.AvailabilityZones, types.AvailabilityZone{ZoneName: &s.Zone, ZoneId: &s.ZoneID,
				RegionName: &a.scope.Region, State: types.AvailabilityZoneStateAvailable, Messages: []types.AvailabilityZoneMessage{},
				OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired, GroupName: &group,
				NetworkBorderGroup: &a.scope.Region, ZoneType: new("availability-zone")})
		}
	}
	return out, nil
}

// describeRegions names the region that was asked in.
func (a *api) describeRegions(_ context.Context, in *ec2.DescribeRegionsInput) (*ec2.DescribeRegionsOutput, error) {
	for _, name := range in.RegionNames {
		if name != a.scope.Region {
			return nil, invalid("Invalid region names: %s. Berth answers for the region that it is asked in, %s.", clip(name), a.scope.Region)
		}
	}
	endpoint := "ec2." + a.scope.Region + ".amazonaws.com"
	out := &ec2.DescribeRegionsOutput{Regions: []types.Region{}}
	ok, err := matches(in.Filters, attributes{"region-name": {a.scope.Region}, "endpoint": {endpoint}, "opt-in-status": {"opt-in-not-required"}})
	if ok {
		out.Regions = append(out.Regions, types.Region{RegionName: &a.scope.Region, Endpoint: &endpoint, OptInStatus: new("opt-in-not-required")})
	}
	return out, err
}

func (a *api) describeAccountAttributes(_ context.Context, in *ec2.DescribeAccountAttributesInput) (*ec2.DescribeAccountAttributesOutput, error) {
	all := [][2]string{{"supported-platforms", "VPC"}, {"default-vpc", a.Network.VPC}}
	for _, want := range in.AttributeNames {
		if !slices.ContainsFunc(all, func(x [2]string) bool { return x[0] == string(want) }) {
			return nil, invalid("Berth has no account attribute %s, only supported-platforms and default-vpc", clip(string(want)))
		}
	}
	out := &ec2.DescribeAccountAttributesOutput{AccountAttributes: []types.AccountAttribute{}}
	for _, x := range all {
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, types.AccountAttributeName(x[0])) {
			out.AccountAttributes = append(out.AccountAttributes, types.AccountAttribute{AttributeName: &x[0],
				AttributeValues: []types.AccountAttributeValue{{AttributeValue: &x[1]}}})
		}
	}
	return out, nil
}

// What there is none of is listed empty, and what was named is not found.

func (a *api) describePrefixLists(_ context.Context, in *ec2.DescribePrefixListsInput) (*ec2.DescribePrefixListsOutput, error) {
	for _, id := range in.PrefixListIds {
		return nil, model.Errorf("InvalidPrefixListId.NotFound", "The prefix list ID '%s' does not exist", clip(id))
	}
	return &ec2.DescribePrefixListsOutput{PrefixLists: []types.PrefixList{}}, nil
}

func (a *api) describeManagedPrefixLists(_ context.Context, in *ec2.DescribeManagedPrefixListsInput) (*ec2.DescribeManagedPrefixListsOutput, error) {
	for _, id := range in.PrefixListIds {
		return nil, model.Errorf("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", clip(id))
	}
	return &ec2.DescribeManagedPrefixListsOutput{PrefixLists: []types.ManagedPrefixList{}}, nil
}

func (a *api) describeVpcEndpoints(_ context.Context, in *ec2.DescribeVpcEndpointsInput) (*ec2.DescribeVpcEndpointsOutput, error) {
	for _, id := range in.VpcEndpointIds {
		return nil, model.Errorf("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist", clip(id))
	}
	return &ec2.DescribeVpcEndpointsOutput{VpcEndpoints: []types.VpcEndpoint{}}, nil
}

func (a *api) describeInstances(_ context.Context, in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	for _, id := range in.InstanceIds {
		return nil, model.Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist: Berth's machines are container instances of ECS, not EC2's", clip(id))
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{}}, nil
}

func (a *api) describeInstanceTypes(context.Context, *ec2.DescribeInstanceTypesInput) (*ec2.DescribeInstanceTypesOutput, error) {
	return nil, model.Errorf("UnsupportedOperation", "Berth has no EC2 instances, and so no instance types: machines join with `berth node`.")
}

func (a *api) describeImages(context.Context, *ec2.DescribeImagesInput) (*ec2.DescribeImagesOutput, error) {
	return nil, model.Errorf("UnsupportedOperation", "Berth has no EC2 instances, and so no machine images: machines join with `berth node`.")
}

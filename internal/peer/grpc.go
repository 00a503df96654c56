package peer

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// handshaken are gRPC's credentials for connections whose handshake is done.
type handshaken struct{}

func (handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	mine, ok := c.(*conn)
	if !ok {
		return nil, nil, errors.New("the connection did not come over the cluster port")
	}
	return c, authInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, &mine.caller}, nil
}

func (handshaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }

func (handshaken) OverrideServerName(string) error { return nil }

// authInfo carries who a connection's peer is to its methods.
type authInfo struct {
	credentials.CommonAuthInfo
	caller *caller
}

// AuthType implements credentials.AuthInfo.
func (authInfo) AuthType() string { return "berth" }

func allowed(ctx context.Context) error {
	c := callerOf(ctx)
	if c == nil {
		return status.Error(codes.Unauthenticated, errAnonymous.Error())
	}
	if err := c.may(Machines); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return nil
}

func unaryGuard(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := allowed(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func streamGuard(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := allowed(s.Context()); err != nil {
		return err
	}
	return next(srv, s)
}

/**
 * The part of two gRPC protocols that this driver speaks: the Container Storage Interface v1 (Identity and Node) and the
 * kubelet's plugin registration v1. Owns names and field numbers, which are the wire format; fields that are not used here
 * are left out, and a peer's are skipped. Kept as data, so that a bundle of one file needs no .proto beside it.
 */
import { loadPackageDefinition, type ServiceClientConstructor, type ServiceDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/** Fields as `name: [type, number]`; a type in brackets is a list, `map` is a map of strings. */
type Fields = Readonly<Record<string, readonly [string, number]>>;

function message(fields: Fields = {}) {
  const entries = Object.entries(fields).map(([name, [type, id]]) => {
    if (type === 'map') return [name, { keyType: 'string', type: 'string', id }];
    if (type.startsWith('[')) return [name, { rule: 'repeated', type: type.slice(1, -1), id }];
    return [name, { type, id }];
  });
  return { fields: Object.fromEntries(entries) as Record<string, { type: string; id: number }> };
}

function service(methods: readonly string[], types: (method: string) => readonly [string, string]) {
  const entries = methods.map((method) => {
    const [requestType, responseType] = types(method);
    return [method, { requestType, responseType }];
  });
  return { methods: Object.fromEntries(entries) as Record<string, { requestType: string; responseType: string }> };
}

const csiTypes = (method: string) => [`${method}Request`, `${method}Response`] as const;

const descriptor = {
  nested: {
    google: { nested: { protobuf: { nested: { BoolValue: message({ value: ['bool', 1] }) } } } },
    csi: {
      nested: {
        v1: {
          nested: {
            Identity: service(['GetPluginInfo', 'GetPluginCapabilities', 'Probe'], csiTypes),
            GetPluginInfoRequest: message(),
            GetPluginInfoResponse: message({ name: ['string', 1], vendorVersion: ['string', 2] }),
            GetPluginCapabilitiesRequest: message(),
            // The list of capabilities stays empty: no controller service, no topology.
            GetPluginCapabilitiesResponse: message(),
            ProbeRequest: message(),
            ProbeResponse: message({ ready: ['google.protobuf.BoolValue', 1] }),
            Node: service(['NodePublishVolume', 'NodeUnpublishVolume', 'NodeGetCapabilities', 'NodeGetInfo'], csiTypes),
            NodePublishVolumeRequest: message({
              volumeId: ['string', 1],
              targetPath: ['string', 4],
              volumeCapability: ['VolumeCapability', 5],
              readonly: ['bool', 6],
              volumeContext: ['map', 8],
            }),
            VolumeCapability: message({ block: ['BlockVolume', 1], mount: ['MountVolume', 2] }),
            BlockVolume: message(),
            MountVolume: message({ fsType: ['string', 1], mountFlags: ['[string]', 2] }),
            NodePublishVolumeResponse: message(),
            NodeUnpublishVolumeRequest: message({ volumeId: ['string', 1], targetPath: ['string', 2] }),
            NodeUnpublishVolumeResponse: message(),
            NodeGetCapabilitiesRequest: message(),
            NodeGetCapabilitiesResponse: message(),
            NodeGetInfoRequest: message(),
            NodeGetInfoResponse: message({ nodeId: ['string', 1] }),
          },
        },
      },
    },
    pluginregistration: {
      nested: {
        Registration: service(['GetInfo', 'NotifyRegistrationStatus'], (method) =>
          method === 'GetInfo' ? ['InfoRequest', 'PluginInfo'] : ['RegistrationStatus', 'RegistrationStatusResponse'],
        ),
        InfoRequest: message(),
        PluginInfo: message({
          type: ['string', 1],
          name: ['string', 2],
          endpoint: ['string', 3],
          supportedVersions: ['[string]', 4],
        }),
        RegistrationStatus: message({ pluginRegistered: ['bool', 1], error: ['string', 2] }),
        RegistrationStatusResponse: message(),
      },
    },
  },
};

interface Packages {
  readonly csi: {
    readonly v1: { readonly Identity: ServiceClientConstructor; readonly Node: ServiceClientConstructor };
  };
  readonly pluginregistration: { readonly Registration: ServiceClientConstructor };
}

// The types of the library want every kind of node to have every other kind's fields; its code does not.
const definition = descriptor as unknown as Parameters<typeof fromJSON>[0];
const packages = loadPackageDefinition(
  fromJSON(definition, { keepCase: true, longs: String, enums: String, defaults: true }),
) as unknown as Packages;

/** Clients of the services, for tests; `.service` is the definition that a server takes. */
export const clients = {
  Identity: packages.csi.v1.Identity,
  Node: packages.csi.v1.Node,
  Registration: packages.pluginregistration.Registration,
};

export const identityService: ServiceDefinition = clients.Identity.service;
export const nodeService: ServiceDefinition = clients.Node.service;
export const registrationService: ServiceDefinition = clients.Registration.service;

/** What the kubelet sends to mount a volume. Absent fields are empty, as proto3 has it. */
export interface NodePublishVolumeRequest {
  readonly volumeId: string;
  readonly targetPath: string;
  readonly volumeCapability: { readonly block: object | null; readonly mount: object | null } | null;
  readonly readonly: boolean;
  readonly volumeContext: Readonly<Record<string, string>>;
}

export interface NodeUnpublishVolumeRequest {
  readonly volumeId: string;
  readonly targetPath: string;
}

/** What the kubelet says after it tried to register the driver. */
export interface RegistrationStatus {
  readonly pluginRegistered: boolean;
  readonly error: string;
}

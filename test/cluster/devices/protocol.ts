/**
 * The part of the kubelet's device plugin API v1beta1 that a plugin without hardware speaks. Owns names and field numbers,
 * which are the wire format; fields that are not used here are left out, and the kubelet's are skipped.
 */
import { loadPackageDefinition, type ServiceClientConstructor, type ServiceDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/** The version that plugin and kubelet agree on. */
export const API_VERSION = 'v1beta1';

const unary = (requestType: string, responseType: string) => ({ requestType, responseType });
const text = (id: number) => ({ type: 'string', id });
const texts = (id: number) => ({ rule: 'repeated', type: 'string', id });
const list = (type: string, id: number) => ({ rule: 'repeated', type, id });
const map = (id: number) => ({ keyType: 'string', type: 'string', id });
const message = (fields: object = {}) => ({ fields });

const descriptor = {
  nested: {
    v1beta1: {
      nested: {
        Registration: { methods: { Register: unary('RegisterRequest', 'Empty') } },
        DevicePlugin: {
          methods: {
            GetDevicePluginOptions: unary('Empty', 'DevicePluginOptions'),
            ListAndWatch: { ...unary('Empty', 'ListAndWatchResponse'), responseStream: true },
            Allocate: unary('AllocateRequest', 'AllocateResponse'),
          },
        },
        Empty: message(),
        DevicePluginOptions: message(),
        RegisterRequest: message({ version: text(1), endpoint: text(2), resource_name: text(3) }),
        ListAndWatchResponse: message({ devices: list('Device', 1) }),
        Device: message({ ID: text(1), health: text(2) }),
        AllocateRequest: message({ container_requests: list('ContainerAllocateRequest', 1) }),
        ContainerAllocateRequest: message({ devices_ids: texts(1) }),
        AllocateResponse: message({ container_responses: list('ContainerAllocateResponse', 1) }),
        ContainerAllocateResponse: message({ envs: map(1), mounts: list('Mount', 2), devices: list('DeviceSpec', 3) }),
        Mount: message({ container_path: text(1), host_path: text(2), read_only: { type: 'bool', id: 3 } }),
        DeviceSpec: message({ container_path: text(1), host_path: text(2), permissions: text(3) }),
      },
    },
  },
};

interface Packages {
  readonly v1beta1: {
    readonly Registration: ServiceClientConstructor;
    readonly DevicePlugin: ServiceClientConstructor;
  };
}

// The types of the library want every kind of node to have every other kind's fields; its code does not.
const definition = descriptor as unknown as Parameters<typeof fromJSON>[0];
const packages = loadPackageDefinition(fromJSON(definition, { keepCase: true, defaults: true })) as unknown as Packages;

/** Client of the kubelet's side. */
export const RegistrationClient: ServiceClientConstructor = packages.v1beta1.Registration;
/** What the kubelet calls. */
export const devicePluginService: ServiceDefinition = packages.v1beta1.DevicePlugin.service;
/** Client of a plugin, for its test. */
export const DevicePluginClient: ServiceClientConstructor = packages.v1beta1.DevicePlugin;

export interface Device {
  readonly ID: string;
  readonly health: 'Healthy' | 'Unhealthy';
}

export interface ListAndWatchResponse {
  readonly devices: readonly Device[];
}

export interface AllocateRequest {
  readonly container_requests: readonly { readonly devices_ids: readonly string[] }[];
}

/** What a container that got devices finds in it. */
export interface ContainerAllocateResponse {
  readonly envs?: Readonly<Record<string, string>>;
  readonly mounts?: readonly {
    readonly container_path: string;
    readonly host_path: string;
    readonly read_only: boolean;
  }[];
  readonly devices?: readonly {
    readonly container_path: string;
    readonly host_path: string;
    readonly permissions: string;
  }[];
}

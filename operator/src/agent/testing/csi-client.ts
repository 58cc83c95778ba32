/** The kubelet's side of the driver's sockets, for tests. Never used in production. */
import { credentials, type ServiceError } from '@grpc/grpc-js';
import { csi } from '@slm-operator/crds';
import { clients } from '../csi/descriptors.ts';
import { socketPaths } from '../csi/driver.ts';

type Method = (request: object, answer: (error: ServiceError | null, response: object) => void) => void;

export interface CsiClient extends Disposable {
  /** Calls a method; rejects with a ServiceError that has `code` and `details`. */
  call(method: string, request?: object): Promise<object>;
}

/** Connects to one service of the driver. */
export function connect(kubeletDir: string, service: keyof typeof clients): CsiClient {
  const paths = socketPaths(kubeletDir);
  const socket = service === 'Registration' ? paths.registration : paths.csi;
  const client = new clients[service](`unix://${socket}`, credentials.createInsecure());
  return {
    call: (method, request = {}) =>
      new Promise((resolve, reject) => {
        const call = (client as unknown as Record<string, Method>)[method];
        if (call === undefined) throw new Error(`no method ${method}`);
        call.call(client, request, (error, response) => (error === null ? resolve(response) : reject(error)));
      }),
    [Symbol.dispose]: () => client.close(),
  };
}

/** A request as the kubelet sends it for an inline volume of pod `chat-0`. */
export function publishRequest(kubeletDir: string, digest: string, context: Readonly<Record<string, string>> = {}) {
  return {
    volumeId: 'csi-1234',
    targetPath: `${kubeletDir}/pods/0000-1111/volumes/kubernetes.io~csi/model/mount`,
    volumeCapability: { mount: {} },
    readonly: true,
    volumeContext: {
      [csi.attributes.digest]: digest,
      [csi.attributes.model]: 'demo/smollm2',
      'csi.storage.k8s.io/ephemeral': 'true',
      'csi.storage.k8s.io/pod.name': 'chat-0',
      'csi.storage.k8s.io/pod.namespace': 'demo',
      'csi.storage.k8s.io/pod.uid': '0000-1111',
      'csi.storage.k8s.io/serviceAccount.name': 'default',
      ...context,
    },
  };
}

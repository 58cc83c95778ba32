/**
 * Owns what the demo and the quickstart benchmark put on a cluster before the first model: the images, a stand-in for the model
 * hub inside the cluster (there may be no internet), and the chart. Every step can be repeated.
 */
import path from 'node:path';
import { repoRoot } from '../cache.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { Progress } from '../cluster/progress.ts';
import { splitReference } from '../images/archive.ts';
import { buildImages, type ImageArchive, type ImageName, imageNames } from '../images/build.ts';

/** Namespace of the operator. */
export const SYSTEM_NAMESPACE = 'slm-system';
/** Namespace of the stand-in for the model hub. */
export const HUB_NAMESPACE = 'slm-demo-files';
/** Address of the stand-in, inside the cluster. */
export const HUB_URL = `http://files.${HUB_NAMESPACE}.svc`;

export interface InstallOptions {
  /** Where an existing cluster pulls the images from; a local one gets them as archives. */
  readonly registry?: string;
  /** Bytes a second that the stand-in gives each connection; none for as fast as it can. */
  readonly hubBytesPerSecond?: number;
  /** Further values of the chart, by path. */
  readonly values?: Readonly<Record<string, unknown>>;
  readonly progress: Progress;
}

/** The three images, under the names that pods have to write. */
export type Images = Record<ImageName, ImageArchive>;

/** Builds the images, or takes them from the cache. Needs no cluster, so it can run while one comes up. */
export async function prepareImages({ registry, progress }: InstallOptions): Promise<Images> {
  const archives = await buildImages(imageNames, progress);
  return Object.fromEntries(
    imageNames.map((name, index) => {
      const image = archives[index];
      if (!image) throw new Error(`no image ${name} was built`);
      const reference = registry ? `${registry}/${image.reference.split('/').at(-1)}` : image.reference;
      return [name, { ...image, reference }];
    }),
  ) as Images;
}

/** Brings everything to the cluster: the images, unless it pulls them from a registry, the stand-in and the chart. */
export async function installAll(cluster: Cluster, images: Images, options: InstallOptions): Promise<void> {
  if (!options.registry) await cluster.loadImages(imageNames.map((name) => images[name].archive));
  // Neither needs the other before the first model.
  await Promise.all([installHub(cluster, images.files, options), installChart(cluster, images, options)]);
}

/** Installs the file server that stands in for the model hub, and waits until it answers. */
async function installHub(cluster: Cluster, image: ImageArchive, options: InstallOptions): Promise<void> {
  const step = options.progress.step('a stand-in for the model hub');
  for (const object of makeHub(image, options.hubBytesPerSecond))
    await cluster.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], {
      input: JSON.stringify(object),
    });
  await cluster.kubectl(['-n', HUB_NAMESPACE, 'rollout', 'status', 'deployment/files', '--timeout=180s']);
  step.done(HUB_URL);
}

/** Installs or upgrades the chart, and waits until the operator leads and every node has its agent. */
async function installChart(
  cluster: Cluster,
  images: Record<'operator' | 'server', ImageArchive>,
  { values = {}, progress }: InstallOptions,
): Promise<void> {
  const step = progress.step('chart slm-operator');
  await cluster.kubectl(['apply', '--server-side', '-f', '-'], {
    input: JSON.stringify({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: SYSTEM_NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
    }),
  });
  const [operator, operatorTag] = splitReference(images.operator.reference);
  const [server, serverTag] = splitReference(images.server.reference);
  // The digest makes a rebuilt image of the same tag a new pod template.
  const stamp = JSON.stringify({ 'slm.dev/image': images.operator.digest });
  await cluster.helm([
    'upgrade',
    '--install',
    'slm-operator',
    path.join(repoRoot, 'charts/slm-operator'),
    '--namespace',
    SYSTEM_NAMESPACE,
    '--set',
    `image.repository=${operator},serverImage.repository=${server}`,
    '--set-string',
    `image.tag=${operatorTag},serverImage.tag=${serverTag}`,
    '--set',
    `huggingFace.endpoint=${HUB_URL},huggingFace.insecure=true`,
    '--set-json',
    `operator.podAnnotations=${stamp}`,
    '--set-json',
    `agent.podAnnotations=${stamp}`,
    ...Object.entries(values).flatMap(([key, value]) => ['--set-json', `${key}=${JSON.stringify(value)}`]),
  ]);
  for (const workload of ['deployment/slm-operator', 'daemonset/slm-operator-agent']) {
    step.update(`waiting for ${workload}`);
    await cluster.kubectl(['-n', SYSTEM_NAMESPACE, 'rollout', 'status', workload, '--timeout=180s']);
  }
  step.done();
}

/** Deletes a namespace and waits until it is gone; none of that name is no error. */
export async function deleteNamespace(cluster: Cluster, namespace: string): Promise<void> {
  // Pods first: a namespace that is deleted with pods in it looks again only after half of their grace period.
  const inside = ['-n', namespace, 'delete', 'slmdeployments,deployments', '--all', '--cascade=foreground'];
  await cluster.kubectl([...inside, '--ignore-not-found', '--wait', '--timeout=180s'], { allowFailure: true });
  const pods = ['-n', namespace, 'wait', 'pods', '--all', '--for=delete', '--timeout=180s'];
  await cluster.kubectl(pods, { allowFailure: true });
  await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--wait', '--timeout=180s']);
}

/** The objects of the stand-in. */
function makeHub(image: ImageArchive, bytesPerSecond: number | undefined): object[] {
  const labels = { 'app.kubernetes.io/name': 'slm-demo-files' };
  const restricted = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: HUB_NAMESPACE, labels: restricted } },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'files', namespace: HUB_NAMESPACE, labels },
      spec: { selector: labels, ports: [{ name: 'http', port: 80, targetPort: 'http' }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'files', namespace: HUB_NAMESPACE, labels },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels, annotations: { 'slm.dev/image': image.digest } },
          spec: {
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
            terminationGracePeriodSeconds: 1,
            containers: [
              {
                name: 'files',
                image: image.reference,
                imagePullPolicy: 'IfNotPresent',
                env: bytesPerSecond === undefined ? [] : [{ name: 'BYTES_PER_SECOND', value: String(bytesPerSecond) }],
                ports: [{ name: 'http', containerPort: 8080 }],
                readinessProbe: { httpGet: { path: '/healthz', port: 'http' }, periodSeconds: 1 },
                resources: { requests: { cpu: '10m', memory: '48Mi' }, limits: { memory: '256Mi' } },
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  capabilities: { drop: ['ALL'] },
                },
              },
            ],
          },
        },
      },
    },
  ];
}

/**
 * Amounts of resources as whole numbers: processors in thousandths, all else in bytes or pieces. Owns reading quantities and
 * the scheduler's rule for what a pod takes. Pure.
 */

/** By resource name; `cpu` in millicores. What is not there is 0. */
export type Amounts = Readonly<Record<string, number>>;

const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/**
 * One quantity; rounded up, as the scheduler does. 0 for what is no quantity.
 * @param resource its name: processors are counted in thousandths
 */
export function amountOf(resource: string, quantity: string | number | undefined): number {
  if (typeof quantity === 'number') return Math.ceil(quantity * (resource === 'cpu' ? 1000 : 1));
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkKMGTPE]i?)|[eE]([+-]?\d+))?$/.exec(quantity ?? '');
  if (match === null) return 0;
  const factor = match[3] === undefined ? (FACTORS[match[2] ?? ''] ?? 0) : 10 ** Number(match[3]);
  const value = Number(match[1]) * factor * (resource === 'cpu' ? 1000 : 1);
  // A product such as 1.1 × 1000 must not be rounded up because of its last binary digit.
  return Number.isInteger(value) ? value : Math.ceil(Number(value.toPrecision(15)));
}

/** A list of quantities, as in a Node's status or in `resources.requests`. */
export function amountsOf(quantities: Readonly<Record<string, string | number>> | undefined): Record<string, number> {
  const amounts: Record<string, number> = {};
  for (const [name, quantity] of Object.entries(quantities ?? {})) amounts[name] = amountOf(name, quantity);
  return amounts;
}

/** Adds in place. */
export function addTo(sum: Record<string, number>, more: Amounts, times = 1): void {
  for (const [name, amount] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + amount * times;
}

/** True when both have the same amounts; 0 and absent are the same. */
export function sameAmounts(a: Amounts, b: Amounts): boolean {
  if (a === b) return true;
  for (const [name, amount] of Object.entries(a)) if (amount !== (b[name] ?? 0)) return false;
  for (const [name, amount] of Object.entries(b)) if (amount !== 0 && a[name] === undefined) return false;
  return true;
}

interface ContainerLike {
  readonly resources?:
    | {
        readonly requests?: Readonly<Record<string, string>> | undefined;
        readonly limits?: Readonly<Record<string, string>> | undefined;
      }
    | undefined;
  readonly restartPolicy?: string | undefined;
}

/** The parts of a pod's spec that say what it takes. */
export interface PodSpecLike {
  readonly containers?: readonly ContainerLike[] | undefined;
  readonly initContainers?: readonly ContainerLike[] | undefined;
  readonly overhead?: Readonly<Record<string, string>> | undefined;
  readonly resources?: ContainerLike['resources'];
}

/**
 * What a pod takes from its node, by the scheduler's own rule: the containers and sidecars together, or the largest init container
 * with the sidecars before it where that is more; then the overhead. A pod's own requests replace that sum. Each pod is one
 * of `pods`.
 */
export function podRequests(spec: PodSpecLike | undefined): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const container of spec?.containers ?? []) addTo(sum, requestsOf(container));
  const sidecars: Record<string, number> = {};
  const highest: Record<string, number> = {};
  for (const container of spec?.initContainers ?? []) {
    const requests = requestsOf(container);
    if (container.restartPolicy === 'Always') {
      addTo(sum, requests);
      addTo(sidecars, requests);
      raise(highest, sidecars);
      continue;
    }
    const with_ = { ...sidecars };
    addTo(with_, requests);
    raise(highest, with_);
  }
  raise(sum, highest);
  for (const [name, amount] of Object.entries(amountsOf(spec?.resources?.requests))) sum[name] = amount;
  addTo(sum, amountsOf(spec?.overhead));
  sum['pods'] = 1;
  return sum;
}

/** A limit alone is a request, as the API server fills it in. */
function requestsOf({ resources }: ContainerLike): Amounts {
  return amountsOf({ ...resources?.limits, ...resources?.requests });
}

function raise(amounts: Record<string, number>, least: Amounts): void {
  for (const [name, amount] of Object.entries(least)) amounts[name] = Math.max(amounts[name] ?? 0, amount);
}

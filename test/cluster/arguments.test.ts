import { describe, expect, it } from 'vitest';
import { parseArguments } from './arguments.ts';

describe('parseArguments', () => {
  it.each([
    [['up'], { command: 'up' }],
    [['up', '--nodes', '5', '--provider', 'kind'], { command: 'up', nodes: 5, provider: 'kind' }],
    [['up', '--nodes=2', '--kwok=500'], { command: 'up', nodes: 2, kwok: 500 }],
    [['down'], { command: 'down', purge: false }],
    [['down', '--purge'], { command: 'down', purge: true }],
    [['kubectl', 'get', 'pods', '-o', 'wide'], { command: 'kubectl', args: ['get', 'pods', '-o', 'wide'] }],
    [['node', 'kill', 'n2'], { command: 'kill', node: 'n2' }],
    [['node', 'hold', 'n2'], { command: 'hold', node: 'n2', service: 'kubelet' }],
    [['node', 'release', 'n2', 'containerd'], { command: 'release', node: 'n2', service: 'containerd' }],
    [['node', 'exec', 'n2', 'ls', '-l'], { command: 'exec', node: 'n2', args: ['ls', '-l'] }],
    [['devices', 'n1', 'amd.com/gpu', '2'], { command: 'devices', node: 'n1', resource: 'amd.com/gpu', count: 2 }],
    [
      ['devices', 'n1', 'huawei.com/Ascend310P', '2', '--healthy', '0'],
      { command: 'devices', node: 'n1', resource: 'huawei.com/Ascend310P', count: 2, healthy: 0 },
    ],
    [['load', 'a.tar'], { command: 'load', archives: ['a.tar'] }],
    [[], { command: 'help' }],
  ])('reads %j', (args, expected) => {
    expect(parseArguments(args)).toEqual(expected);
  });

  it.each([
    [['fly'], 'There is no command "fly"'],
    [['up', '--nodes'], '--nodes needs a number from 1 on, such as --nodes 3.'],
    [['up', '--nodes', '0'], '--nodes needs a number from 1 on, such as --nodes 3.'],
    [['up', '--provider', 'minikube'], '--provider needs "bare" or "kind".'],
    [['up', '--size', '3'], '"up" knows --nodes, --provider and --kwok, and not --size.'],
    [['down', '--all'], '"down" knows only --purge, and not --all.'],
    [['devices', 'n1'], 'Write "devices NODE RESOURCE COUNT", such as "devices n1 nvidia.com/gpu 2".'],
    [['devices', 'n1', 'gpu', '2'], '"gpu" is no name of a vendor\'s resource: write DOMAIN/NAME'],
    [['devices', 'n1', 'amd.com/gpu', 'all'], '"devices" needs a number of devices'],
    [['devices', 'n1', 'amd.com/gpu', '2', '--healthy', '3'], 'only --healthy N, from 0 to 2.'],
    [['load'], '"load" needs the path of at least one image archive.'],
    [['node', 'kill'], 'such as "node kill n2"'],
    [['node', 'reboot', 'n2'], 'Write kill, start, hold, release or exec after "node", and not "reboot".'],
    [['node', 'hold', 'n2', 'sshd'], 'choose one of kubelet, containerd, kube-proxy.'],
    [['status', 'now'], '"status" takes no argument, and got now.'],
  ])('refuses %j with what to write', (args, message) => {
    expect(() => parseArguments(args)).toThrow(message);
  });
});

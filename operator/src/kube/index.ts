/**
 * The Kubernetes client: types, errors, resources, configuration.
 */
export * from './client.ts';
export * from './config.ts';
export * from './errors.ts';
export * from './http-client.ts';
export * from './resource.ts';

/** The SLMDeployment controller. */
export { type DeploymentControllerOptions, makeDeploymentController } from './controller.ts';
export { gateOf } from './gate.ts';
export { isEligible, type NodeView } from './node-match.ts';
export { type DeploymentConfig, planDeployment } from './plan.ts';

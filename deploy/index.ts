/** Deterministic deployment of the escrow: plan, preflight, deploy, verify, record. For Node; `sluice deploy` wraps it. */

export { type DeploymentCost, DeploymentFailedError } from "./cost.ts";
export { type Deployed, type DeployOptions, deployEscrow, InsufficientFundsError } from "./deploy.ts";
export {
	FACTORY_ADDRESS,
	FACTORY_DEPLOYER,
	FACTORY_RUNTIME,
	FACTORY_TRANSACTION,
	FactoryUnusableError,
	hasFactory,
	installFactory,
} from "./factory.ts";
export { assertOpcodes, type NeededOpcode, OpcodesMissingError } from "./opcodes.ts";
export { hasPermit2, Permit2UnusableError, permit2DomainSeparator } from "./permit2.ts";
export {
	CANONICAL_PERMIT2,
	type DeploymentPlan,
	ESCROW_SALT,
	type EscrowArguments,
	EscrowArgumentsError,
	planDeployment,
	REFERENCE_GRACE_SECONDS,
} from "./plan.ts";
export { ChainMismatchError, type Preflight, type PreflightOptions, preflight } from "./preflight.ts";
export { DeploymentPendingError, type Waiting } from "./receipt.ts";
export {
	assertRecordable,
	RecordConflictError,
	RecordFileError,
	readDeployments,
	recordDeployment,
	recordObstacle,
} from "./records.ts";
export { DeploymentMismatchError, type VerifiedDeployment, verifyDeployment } from "./verify.ts";

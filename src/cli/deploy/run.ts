import { relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { type Address, createPublicClient, createWalletClient, type PublicClient } from "viem";
import {
	assertRecordable,
	ChainMismatchError,
	type Deployed,
	DeploymentFailedError,
	DeploymentPendingError,
	type DeploymentPlan,
	deployEscrow,
	EscrowArgumentsError,
	FACTORY_ADDRESS,
	planDeployment,
	preflight,
	recordDeployment,
	recordObstacle,
	verifyDeployment,
} from "../../../deploy/index.ts";
import { type Connection, connectTo } from "../shared/connection.ts";
import { EXIT } from "../shared/exit.ts";
import { describeFailure, failureLine } from "../shared/failure.ts";
import { hideTyped, originOf, redactor } from "../shared/secrets.ts";
import { SignerError } from "../shared/signer.ts";
import { costReport, describeCost, isHash, type Report, redacted, table } from "./report.ts";
import { type Deployer, readDeployer } from "./signer.ts";

/** What the command line says; numbers in seconds, addresses lowercase. */
export type DeployCommandOptions = Readonly<{
	rpc?: string;
	chainId?: number;
	dryRun?: boolean;
	verify?: Address;
	gracePeriod: number;
	permit2?: Address;
	allowMissingPermit2?: boolean;
	deployFactory?: boolean;
	privateKeyEnv?: string;
	privateKeyFile?: string;
	unlocked?: Address;
	from?: Address;
	record?: string;
	force?: boolean;
	timeout: number;
	json?: boolean;
}>;

/** Chains that live on one machine, for an hour: anvil's and Hardhat's, Ganache's. */
const DEVELOPMENT_CHAINS: readonly number[] = [31_337, 1_337];

const CHECKOUT = fileURLToPath(new URL("../../../", import.meta.url));

/** What every step works with. */
type Run = Readonly<{
	options: DeployCommandOptions;
	client: PublicClient;
	connection: Connection;
	plan: DeploymentPlan;
	signer: Deployer | undefined;
	file: string;
	/** For people, on stderr. */
	say: (text: string) => void;
	warnings: string[];
}>;

/** The escrow is on chain, and the file of deployments does not say so. */
class NotRecordedError extends Error {
	override readonly name = "NotRecordedError";
	readonly code = "NOT_RECORDED";
	readonly deployed: Deployed;
	constructor(deployed: Deployed, cause: unknown) {
		const { escrow, transactionHash, blockNumber } = deployed;
		const done =
			transactionHash === undefined
				? `the escrow is at ${escrow}`
				: `the escrow was deployed to ${escrow} by transaction ${transactionHash} in block ${blockNumber}`;
		const reason = cause instanceof Error ? cause.message : "unknown error";
		super(
			`deployed, but not recorded: ${done}, and recording it failed: ${reason}. Mend that, and run the same command again, which sends nothing and records the escrow without block and transaction`,
			{ cause },
		);
		this.deployed = deployed;
	}
}

/** Runs the command and prints what came of it; resolves to the exit code. No secret gets past it. */
export async function runDeployCommand(
	options: DeployCommandOptions,
	env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
	const { rpc = "", json = false, verify } = options;
	// Until it is known what the secrets are, whatever may be one.
	let redact = hideTyped;
	let connection: Connection | undefined;
	const say = (text: string) => void process.stderr.write(`${redact(text)}\n`);
	try {
		redact = redactor([rpc]);
		const signer = verify === undefined ? await readDeployer(options, env) : undefined;
		if (signer?.key !== undefined) redact = redactor([rpc], [signer.key]);
		const { gracePeriod: closeGracePeriodSeconds, permit2 } = options;
		const plan = planDeployment({ closeGracePeriodSeconds, ...(permit2 && { permit2 }) });
		connection = connectTo(rpc);
		const client = createPublicClient({ transport: connection.transport, cacheTime: 0 });
		say(`asking ${originOf(rpc)}`);
		const run: Run = { options, client, connection, plan, signer, file: recordFile(options), say, warnings: [] };
		const report = redacted(await step(run), redact);
		process.stdout.write(json ? `${JSON.stringify(report)}\n` : table(report));
		return EXIT.done;
	} catch (error) {
		const { code, message } = describeFailure(error, [rpc]);
		say(`sluice: ${message}`);
		if (json) process.stdout.write(failureLine({ code, message: redact(message) }, transactionOf(error)));
		if (code === "DEPLOYMENT_PENDING") return EXIT.pending;
		return error instanceof SignerError || error instanceof EscrowArgumentsError ? EXIT.usage : EXIT.failed;
	} finally {
		connection?.close();
	}
}

function step(run: Run): Promise<Report> {
	const { verify, dryRun } = run.options;
	if (verify !== undefined) return verifyOnly(run, verify);
	return dryRun ? rehearse(run) : deploy(run);
}

async function verifyOnly({ options, client, plan, warnings }: Run, address: Address): Promise<Report> {
	await assertChain(client, options.chainId);
	const { chainId, codeHash } = await verifyDeployment(client, address, plan);
	const { factory: _, salt: __, ...report } = reportOf(plan, chainId, warnings);
	return { outcome: "verified", ...report, escrow: address, codeHash };
}

async function rehearse(run: Run): Promise<Report> {
	const { options, client, plan, signer, file, warnings } = run;
	const deployer = options.from ?? signer?.account.address;
	const found = await preflight({ ...checksOf(run), ...(deployer && { from: deployer }) });
	const obstacle = await recordObstacle(file, found.chainId, deploymentOf(plan), options.force);
	if (obstacle !== undefined) note(run, obstacle);
	noteFindings(run, found.chainId, found.permit2Missing);
	const report = reportOf(plan, found.chainId, warnings);
	if (found.existing !== undefined) {
		return {
			outcome: "already-there",
			...report,
			codeHash: found.existing.codeHash,
			record: shown(file),
			recorded: false,
		};
	}
	const { cost } = found;
	const balance = deployer && (await client.getBalance({ address: deployer }));
	if (balance !== undefined && balance < cost.max) {
		note(run, `${deployer} has ${balance} wei and needs up to ${cost.max} wei; fund it before you deploy`);
	}
	return {
		outcome: "dry-run",
		...report,
		...(deployer && { deployer: deployer.toLowerCase() }),
		...(balance !== undefined && { balance: String(balance) }),
		cost: costReport(cost),
	};
}

async function deploy(run: Run): Promise<Report> {
	const { options, connection, plan, signer, file, say, warnings } = run;
	if (signer === undefined) {
		throw new SignerError(
			"there is no key to deploy with; put it in the variable SLUICE_DEPLOYER_KEY, or give --private-key-env or --private-key-file, or --unlocked for an account that the node signs for (--dry-run needs none)",
		);
	}
	const deployed = await deployEscrow({
		...checksOf(run),
		wallet: createWalletClient({ account: signer.account, transport: connection.transport }),
		timeoutMs: options.timeout * 1_000,
		progress: say,
		before: async ({ chainId, permit2Missing, cost }) => {
			await assertRecordable(file, chainId, deploymentOf(plan), options.force);
			noteFindings(run, chainId, permit2Missing);
			if (cost !== undefined) say(describeCost(cost));
		},
	});
	const { outcome, chainId, codeHash, transactionHash, blockNumber, gasUsed, fee } = deployed;
	const transaction = {
		...(transactionHash && { transactionHash }),
		...(blockNumber !== undefined && { blockNumber }),
	};
	const entry = { ...deploymentOf(plan), ...transaction };
	const recorded = await recordDeployment(file, chainId, entry, options.force).catch((error: unknown) => {
		throw new NotRecordedError(deployed, error);
	});
	return {
		outcome,
		...reportOf(plan, chainId, warnings),
		...transaction,
		...(gasUsed !== undefined && { gasUsed: String(gasUsed) }),
		...(fee !== undefined && { fee: String(fee) }),
		codeHash,
		record: shown(file),
		recorded,
	};
}

function checksOf({ client, plan, options }: Run) {
	const { chainId, allowMissingPermit2 = false, deployFactory = false } = options;
	return {
		client,
		plan,
		allowMissingPermit2,
		installFactory: deployFactory,
		...(chainId !== undefined && { chainId }),
	};
}

async function assertChain(client: PublicClient, expected: number | undefined): Promise<void> {
	if (expected === undefined) return;
	const actual = await client.getChainId();
	if (actual !== expected) throw new ChainMismatchError(expected, actual);
}

function noteFindings(run: Run, chainId: number, permit2Missing: boolean): void {
	if (permit2Missing) {
		note(
			run,
			`there is no Permit2 at ${run.plan.permit2}: the escrow's Permit2 functions work once it is deployed there`,
		);
	}
	if (DEVELOPMENT_CHAINS.includes(chainId) && run.file === ownRecordFile() && !run.options.dryRun) {
		note(run, `chain ${chainId} is a development chain: do not commit its entry in ${shown(run.file)}`);
	}
}

function note({ say, warnings }: Run, text: string): void {
	warnings.push(text);
	say(`warning: ${text}`);
}

function reportOf(
	{ escrow, permit2, closeGracePeriodSeconds, salt }: DeploymentPlan,
	chainId: number,
	warnings: string[],
) {
	return { chainId, escrow, permit2, closeGracePeriodSeconds, factory: FACTORY_ADDRESS, salt, warnings };
}

function deploymentOf({ escrow, permit2, closeGracePeriodSeconds }: DeploymentPlan) {
	return { escrow, permit2, closeGracePeriodSeconds };
}

/** The file that server and client of this checkout read. */
function ownRecordFile(): string {
	return resolve(CHECKOUT, "deploy/deployments.json");
}

function recordFile({ record }: DeployCommandOptions): string {
	if (record !== undefined) return resolve(record);
	const isInside = `${process.cwd()}${sep}`.startsWith(CHECKOUT);
	return isInside ? ownRecordFile() : resolve("deployments.json");
}

function shown(file: string): string {
	const path = relative(process.cwd(), file);
	return path.startsWith("..") ? file : path;
}

/** The transaction of a run that failed after it was sent. */
function transactionOf(error: unknown): Readonly<{ transactionHash?: string; blockNumber?: number }> {
	if (error instanceof NotRecordedError) {
		const { transactionHash, blockNumber } = error.deployed;
		return { ...(transactionHash && { transactionHash }), ...(blockNumber !== undefined && { blockNumber }) };
	}
	if (error instanceof DeploymentPendingError || error instanceof DeploymentFailedError) {
		return error.hash !== undefined && isHash(error.hash) ? { transactionHash: error.hash } : {};
	}
	return {};
}

// Writes the TypeScript that carries the contracts' ABIs and code, from what `hardhat build` left behind.
// With `--check` it writes nothing and fails if a file is not what it would have written.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const COMMAND = "npm run build:contracts";
const ROOT = new URL("../", import.meta.url);

/** What a client or a server asks of a token, by canonical signature. The token's errors are all taken. */
const ERC3009_PARTS = [
	"balanceOf(address)",
	"transfer(address,uint256)",
	"approve(address,uint256)",
	"allowance(address,address)",
	"decimals()",
	"name()",
	"version()",
	"DOMAIN_SEPARATOR()",
	"authorizationState(address,bytes32)",
	"receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
	"transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
	"transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
	"Transfer(address,address,uint256)",
	"AuthorizationUsed(address,bytes32)",
];

/** What a server asks of Permit2 for a charge. Permit2's errors are all taken. */
const PERMIT2_PARTS = [
	"permitWitnessTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes32,string,bytes)",
	"permitWitnessTransferFrom(((address,uint256)[],uint256,uint256),(address,uint256)[],address,bytes32,string,bytes)",
	"nonceBitmap(address,uint256)",
];

const escrow = readBuild("contracts/PaymentChannelEscrow.sol/PaymentChannelEscrow.json");
const testUsdc = readBuild("contracts/test/TestUSDC.sol/TestUSDC.json");
const permit2 = readBuild("contracts/IPermit2Transfers.sol/IPermit2Transfers.json");
const contractAccount = readBuild("contracts/test/ERC1271Wallet.sol/ERC1271Wallet.json");
const permit2Fixture = JSON.parse(readFileSync(new URL("test/fixtures/permit2.json", ROOT), "utf8"));
const SMART_ACCOUNT = "contracts/test/SmartAccount.sol/SmartAccount.json";
const double = (name) => readBuild(`contracts/test/${name}.sol/${name}.json`).bytecode;

const files = {
	"src/escrow/generated/escrow.ts": [
		abiConst("paymentChannelEscrowAbi", escrow.abi, "The escrow's functions, events and errors."),
		bytecodeConst("paymentChannelEscrowBytecode", escrow.bytecode, "The escrow's creation code, without arguments."),
	],
	"src/escrow/generated/escrowRuntime.ts": [
		bytecodeConst(
			"paymentChannelEscrowRuntime",
			escrow.deployedBytecode,
			"The escrow's code as it lies on chain, with zeros where its immutables go.",
		),
		immutablesConst(
			"paymentChannelEscrowImmutables",
			immutablePlaces(escrow),
			"Where each immutable lies in that code: offsets in bytes, 32 bytes each.",
		),
	],
	"src/escrow/generated/erc3009.ts": [
		abiConst(
			"erc3009Abi",
			pick(testUsdc.abi, ERC3009_PARTS),
			"What Sluice asks of an ERC-20 token with EIP-3009, as USDC 2.2 has it. The errors are the test token's.",
		),
	],
	"src/escrow/generated/permit2.ts": [
		abiConst("permit2Abi", pick(permit2.abi, PERMIT2_PARTS), "What Sluice asks of Permit2, and Permit2's errors."),
	],
	"src/escrow/generated/erc1271.ts": [
		abiConst(
			"erc1271Abi",
			pick(contractAccount.abi, ["isValidSignature(bytes32,bytes)"]),
			"What Sluice asks of a contract account that signs (ERC-1271).",
		),
	],
	"bench/gas/generated/testErc3009.ts": [
		bytecodeConst(
			"testErc3009Bytecode",
			double("TestERC3009"),
			"The creation code of play money with EIP-3009; it takes no arguments.",
		),
	],
	"src/cli/demo/generated/testUsdc.ts": [
		abiConst("testUsdcAbi", testUsdc.abi, "The demo's play money: functions, events and errors."),
		bytecodeConst("testUsdcBytecode", testUsdc.bytecode, "The play money's creation code; it takes no arguments."),
	],
	"src/cli/demo/generated/permit2Code.ts": [
		bytecodeConst(
			"permit2Deployment",
			`${permit2Fixture.salt}${permit2Fixture.initCode.slice(2)}`,
			"What the CREATE2 factory is sent to put Permit2 at its usual address: a salt, then its creation code.",
		),
	],
	"test/support/generated/smartAccount.ts": [
		abiConst("smartAccountAbi", readBuild(SMART_ACCOUNT).abi, "A contract account for tests: functions and errors."),
		bytecodeConst("smartAccountBytecode", double("SmartAccount"), "Its creation code, without arguments."),
	],
	"test/model/generated/doubles.ts": [
		bytecodeConst(
			"blocklistTokenBytecode",
			double("BlocklistToken"),
			"A token that blocks accounts: its creation code; it takes no arguments.",
		),
		bytecodeConst(
			"inexactTokenBytecode",
			double("InexactToken"),
			"A token that moves another amount than asked: its creation code, without arguments.",
		),
		bytecodeConst(
			"erc1271WalletBytecode",
			double("ERC1271Wallet"),
			"A contract account for which one key signs: its creation code, without arguments.",
		),
		bytecodeConst(
			"credulousWalletBytecode",
			double("CredulousWallet"),
			"A contract account that agrees to anything: its creation code; it takes no arguments.",
		),
	],
};

const checkOnly = process.argv.includes("--check");
for (const [path, parts] of Object.entries(files)) {
	const url = new URL(path, ROOT);
	const wanted = [`// Generated from the contracts by \`${COMMAND}\`. Do not edit.\n`, ...parts].join("\n");
	if (readIfThere(url) === wanted) continue;
	if (checkOnly) {
		console.error(`${path} is not what the contracts say. Run \`${COMMAND}\` and commit the result.`);
		process.exitCode = 1;
	} else {
		mkdirSync(new URL(".", url), { recursive: true });
		writeFileSync(url, wanted);
		console.log(`wrote ${path}`);
	}
}

function readBuild(path) {
	const text = readIfThere(new URL(`artifacts/${path}`, ROOT));
	if (text === undefined) throw new Error(`artifacts/${path} is missing. Run \`${COMMAND}\`.`);
	return JSON.parse(text);
}

function readIfThere(url) {
	try {
		return readFileSync(url, "utf8");
	} catch (error) {
		if (error.code === "ENOENT") return undefined;
		throw error;
	}
}

/** The named parts of an ABI in the order asked for, then all its errors. */
function pick(abi, signatures) {
	const found = signatures.map((signature) => {
		const item = abi.find((each) => each.type !== "error" && signatureOf(each) === signature);
		if (item === undefined) throw new Error(`No ${signature} in the ABI.`);
		return item;
	});
	return [...found, ...abi.filter((each) => each.type === "error")];
}

function signatureOf({ name, inputs = [] }) {
	return `${name}(${inputs.map(typeOf).join(",")})`;
}

/** The type as it stands in a signature: a struct is its members in brackets. */
function typeOf({ type, components = [] }) {
	return type.replace("tuple", () => `(${components.map(typeOf).join(",")})`);
}

/** The immutables by name: the artifact knows only the numbers of their declarations, which change with every edit. */
function immutablePlaces({ immutableReferences, buildInfoId }) {
	const { output } = readBuild(`build-info/${buildInfoId}.output.json`);
	const names = new Map();
	const visit = (node) => {
		if (typeof node !== "object" || node === null) return;
		if (node.nodeType === "VariableDeclaration" && node.mutability === "immutable")
			names.set(String(node.id), node.name);
		for (const child of Object.values(node)) visit(child);
	};
	for (const { ast } of Object.values(output.sources)) visit(ast);
	const places = Object.entries(immutableReferences).map(([id, references]) => {
		if (!names.has(id)) throw new Error(`No declaration of immutable ${id} in the build.`);
		if (references.some(({ length }) => length !== 32)) throw new Error(`Immutable ${id} is not a word.`);
		return [names.get(id), references.map(({ start }) => start).sort((a, b) => a - b)];
	});
	if (new Set(places.map(([name]) => name)).size !== places.length) throw new Error("Two immutables of one name.");
	return places.sort(([a], [b]) => (a < b ? -1 : 1));
}

/** One line for each part of the ABI, so that a change shows as one line. */
function abiConst(name, abi, about) {
	const lines = abi.map(
		(item) => `\t${JSON.stringify(item, (key, value) => (key === "internalType" ? undefined : value))},`,
	);
	return `/** ${about} */\nexport const ${name} = [\n${lines.join("\n")}\n] as const;\n`;
}

function bytecodeConst(name, bytecode, about) {
	return `/** ${about} */\nexport const ${name}: \`0x\${string}\` =\n\t${JSON.stringify(bytecode)};\n`;
}

function immutablesConst(name, places, about) {
	const lines = places.map(([immutable, starts]) => `\t${immutable}: ${JSON.stringify(starts)},`);
	return `/** ${about} */\nexport const ${name}: Readonly<Record<string, readonly number[]>> = {\n${lines.join("\n")}\n};\n`;
}

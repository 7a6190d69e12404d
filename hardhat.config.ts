import { createRequire } from "node:module";
import hardhatViem from "@nomicfoundation/hardhat-viem";
import { defineConfig } from "hardhat/config";

const require = createRequire(import.meta.url);

export default defineConfig({
	plugins: [hardhatViem],
	paths: { sources: "contracts" },
	solidity: {
		profiles: {
			default: {
				compilers: [
					{
						version: "0.8.37",
						// npm's own build of the compiler: nothing is downloaded.
						path: require.resolve("solc/soljson.js"),
						settings: {
							optimizer: { enabled: true, runs: 1_000_000 },
							evmVersion: "cancun",
							viaIR: true,
							metadata: { bytecodeHash: "none" },
						},
					},
				],
			},
		},
	},
});

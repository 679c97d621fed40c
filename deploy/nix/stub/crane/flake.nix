# Stands in for crane: its builders check that they got what the real ones insist on.
{
  outputs =
    { self }:
    {
      mkLib =
        pkgs:
        let
          command =
            kind: required: args:
            let
              missing = builtins.filter (name: !(args ? ${name})) required;
              # every remaining argument becomes an environment variable of the build
              environment = removeAttrs args [
                "meta"
                "cargoArtifacts"
                "packages"
                "checks"
              ];
            in
            if missing != [ ] then
              throw "crane ${kind}: missing ${builtins.concatStringsSep ", " missing}"
            else
              builtins.deepSeq environment (pkgs.fake "${args.pname or "shell"}-${kind}" args);
        in
        {
          overrideToolchain = toolchain: builtins.seq (toolchain pkgs).outPath (self.mkLib pkgs);
          buildDepsOnly = command "deps" [ "src" ];
          buildPackage = command "package" [
            "src"
            "cargoArtifacts"
          ];
          cargoClippy = command "clippy" [
            "src"
            "cargoArtifacts"
          ];
          cargoNextest = command "nextest" [
            "src"
            "cargoArtifacts"
          ];
          cargoTest = command "test" [
            "src"
            "cargoArtifacts"
          ];
          cargoDocTest = command "doctest" [
            "src"
            "cargoArtifacts"
          ];
          cargoDeny = command "deny" [ "src" ];
          cargoFmt = command "fmt" [ "src" ];
          devShell =
            {
              checks ? { },
              packages ? [ ],
              ...
            }@args:
            builtins.deepSeq (builtins.mapAttrs (_: check: check.drvPath) checks) (pkgs.fake "devshell" args);
        };
    };
}

from mrprism.cli import main

main()
